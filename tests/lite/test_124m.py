"""The 124M size in onnxruntime and MindSpore Lite, on random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt2dsl import Model, Recipe, Task, load
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.exported import ExportedModel
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.initial import initial
from tests.lite.environment import lite_cache

PROMPTS = [
    "The statement", "An increasing sequence: one,", "I love Beijing, because", "def main():",
    "Once upon a time", "1, 2, 3,", "The quick brown fox", "In 1912,", "To be or not", "We hold",
]  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New weights five times as large, so that logits are far apart."""
    geometry = Model(size="124m").geometry(vocab=50257, labels=0)
    folder = tmp_path_factory.mktemp("124m") / "weights"
    folder.mkdir()
    arrays = {
        name: array * 5 if array.ndim > 1 else array
        for name, array in Arrays(initial(geometry, 0)).items()
    }
    huggingface.write(folder, geometry, arrays, Tokenizer.load("gpt2"))
    return folder


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("form", ["onnx", "ms"])
def test_greedy_texts_of_124m_are_those_of_mindspore(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("GPT2DSL_CACHE", str(lite_cache()))
    task = Task.export(source=str(weights), target=str(tmp_path / form), format=form, seq_length=64)
    Recipe(task).plan().run()
    said = json.loads((tmp_path / form / "export.json").read_text())
    assert max(said["verified"].values()) < 1e-3
    with ExportedModel.load(tmp_path / form) as model:
        found = model.generate(PROMPTS, max_new_tokens=32)
    assert found == load(str(weights)).generate(PROMPTS, max_new_tokens=32)
