"""The README of an export with onnxruntime alone; tests/optimum has its other half."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import attrs
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.lite.onnx_readme import PROMPTS, SHORT_PROMPTS
from gpt2dsl.weights.formats import huggingface
from tests.engine.conftest import text
from tests.engine.layouts import write_weights
from tests.judges import TINY, random_weights
from tests.lite.readmes import export, greedy, output


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("readme") / "weights")


@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no-cache"])
def test_its_example_gives_the_texts_of_transformers(
    weights: Path, tmp_path: Path, *, cache: bool
) -> None:
    folder = export(weights, tmp_path / "there", cache=cache)
    expected = greedy(weights, list(PROMPTS), 20)
    assert output(folder, "onnxruntime alone", sys.executable) == expected
    for name in ("config.json", "generation_config.json", "tokenizer.json", "manifest.json"):
        assert (folder / name).is_file()


def test_its_example_fits_the_longest_row(weights: Path, tmp_path: Path) -> None:
    folder = export(weights, tmp_path / "there", seq_length=6)
    assert json.loads((folder / "config.json").read_text())["n_positions"] == 6
    expected = greedy(weights, list(SHORT_PROMPTS), 5)
    assert output(folder, "onnxruntime alone", sys.executable) == expected


def test_a_classifier_names_the_classes(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train([text(400)], 320)
    geometry = attrs.evolve(TINY, inner=0, vocab=len(tokenizer), labels=3)
    folder = tmp_path / "weights"
    folder.mkdir()
    names = ("it's bad", "middling", 'so "good"')
    huggingface.write(folder, geometry, random_weights(geometry), tokenizer, names)
    shown = output(export(folder, tmp_path / "there"), "onnxruntime alone", sys.executable)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    scores = (model(torch.tensor([tokenizer.encode(prompt)])).logits[0] for prompt in PROMPTS)
    assert shown == [names[int(row.argmax())] for row in scores]


def test_weights_without_a_tokenizer_have_an_example_of_ids(weights: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((weights / name).read_bytes())
    folder = export(bare, tmp_path / "there", seq_length=8)
    shown = [json.loads(line) for line in output(folder, "onnxruntime alone", sys.executable)]
    assert [row[: len(ids)] for row, ids in zip(shown, ([0, 1], [1]), strict=True)] == [[0, 1], [1]]


def test_weights_of_gpt2s_vocabulary_get_its_tokenizer(tmp_path: Path) -> None:
    geometry = attrs.evolve(TINY, layers=1, positions=32, vocab=50257)
    bare = tmp_path / "bare"
    bare.mkdir()
    huggingface.write(bare, geometry, random_weights(geometry))
    folder = export(bare, tmp_path / "there", batch=2)
    Tokenizer.load("gpt2").save(bare)
    assert (folder / "tokenizer.json").is_file()
    assert output(folder, "onnxruntime alone", sys.executable) == greedy(bare, list(PROMPTS), 20)
