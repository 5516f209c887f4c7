"""A folder of an earlier version, whose graphs have fixed shapes and names of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from gpt2dsl.engine.exported import ExportedModel
from gpt2dsl.lite import description
from tests.commands import gpt2dsl

FOLDER = Path(__file__).parents[1] / "golden" / "fixed_onnx"
"""Made by `gpt2dsl export --format onnx --batch 2` before models had Hugging Face's names."""

TEXTS = ["the old cat��-;�;�\x1b", "a birdރ;�;�;�"]
"""What MindSpore generated from its weights then."""


def test_a_folder_of_before_is_read_and_gives_its_texts() -> None:
    assert description.read(FOLDER).task == ""
    with ExportedModel.load(FOLDER) as model:
        assert model.at_once == 2
        assert model.generate(["the old cat", "a bird"], max_new_tokens=8) == TEXTS


def test_lite_run_takes_a_tokenizer_for_an_export_without_one(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(FOLDER, bare, ignore=shutil.ignore_patterns("*token*", "vocab*", "merges*"))
    manifest = json.loads((bare / "manifest.json").read_text())
    manifest["files"] = {
        name: entry for name, entry in manifest["files"].items() if (bare / name).exists()
    }
    (bare / "manifest.json").write_text(json.dumps(manifest))
    words = ("--prompt", "the", "--max-new-tokens", 3)
    refused = gpt2dsl("lite", "run", bare, *words, code=2)
    assert "name a folder that has the tokenizer (--tokenizer)" in refused.stderr
    said = gpt2dsl("lite", "run", bare, *words, "--tokenizer", FOLDER).stdout
    assert said == gpt2dsl("lite", "run", FOLDER, *words).stdout
