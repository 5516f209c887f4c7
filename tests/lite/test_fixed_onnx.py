"""A folder of an earlier version, whose graphs have fixed shapes and names of their own."""

from __future__ import annotations

from pathlib import Path

from gpt2dsl.engine.exported import ExportedModel
from gpt2dsl.lite import description

FOLDER = Path(__file__).parents[1] / "golden" / "fixed_onnx"
"""Made by `gpt2dsl export --format onnx --batch 2` before models had Hugging Face's names."""

TEXTS = ["the old cat��-;�;�\x1b", "a birdރ;�;�;�"]
"""What MindSpore generated from its weights then."""


def test_a_folder_of_before_is_read_and_gives_its_texts() -> None:
    assert description.read(FOLDER).task == ""
    with ExportedModel.load(FOLDER) as model:
        assert model.at_once == 2
        assert model.generate(["the old cat", "a bird"], max_new_tokens=8) == TEXTS
