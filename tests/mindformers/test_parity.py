"""Weights against MindFormers 0.8.0 itself, in its own Python 3.9: ``make judges``."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel

from gpt2dsl import Recipe, Task
from gpt2dsl.data import mindrecord
from gpt2dsl.data.form import DataFormat
from gpt2dsl.data.source import Source
from gpt2dsl.engine import prepare
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts.model import SIZES
from gpt2dsl.weights import reading
from gpt2dsl.weights.files import ckptfile
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.initial import initial
from tests.judges import random_ids, random_weights

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".judges" / "bin" / "python"
INSIDE = Path(__file__).with_name("inside.py")

SMALL = GPT2Config(layers=2, heads=2, hidden=16, positions=32, vocab=97)
ODD = GPT2Config(layers=3, heads=3, hidden=21, positions=17, vocab=301)

pytestmark = [
    pytest.mark.judges,
    pytest.mark.skipif(not PYTHON.exists(), reason="make judges makes the environment"),
]

CASES = [
    SMALL, ODD,
    attrs.evolve(SMALL, activation="fast_gelu"), attrs.evolve(SMALL, activation="relu"),
    attrs.evolve(SMALL, inner=48),
    SIZES["124m"],
]  # fmt: skip


def inside(*words: object) -> None:
    done = subprocess.run(
        [PYTHON, INSIDE, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def convert(source: Path, target: Path, **keys: Any) -> Path:
    Recipe(Task.convert(source=str(source), target=str(target), **keys)).plan().run()
    return target


def worst(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max())


def logits(weights: Path, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    return LanguageModel.load(str(weights)).logits(ids)


@pytest.mark.parametrize("geometry", CASES, ids=str)
@pytest.mark.timeout(900)
def test_mindformers_reads_what_is_written_here_and_gives_the_same_logits(
    tmp_path: Path, geometry: GPT2Config
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    # Large random weights over 12 blocks of 768 amplify rounding: there, those of a new network.
    large = geometry.hidden > 100
    huggingface.write(
        source, geometry, dict(Arrays(initial(geometry, 0))) if large else random_weights(geometry)
    )
    target = convert(source, tmp_path / "target", to="mindformers")
    ids = random_ids(geometry, 2, geometry.positions)
    np.save(target / "ids.npy", ids)
    inside("logits", target)
    found = worst(np.load(target / "logits.npy"), logits(source, ids))
    assert found < (1e-4 if large else 1e-5)


def saved(folder: Path, geometry: GPT2Config, *words: object) -> Path:
    names = {"gelu_new": "gelu"}
    folder.mkdir()
    inside(
        "save", folder, "--layers", geometry.layers, "--heads", geometry.heads,
        "--hidden", geometry.hidden, "--positions", geometry.positions, "--vocab", geometry.vocab,
        "--activation", names.get(geometry.activation, geometry.activation), *words,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("geometry", CASES[:4], ids=str)
def test_what_mindformers_saves_is_read_here_and_gives_the_same_logits(
    tmp_path: Path, geometry: GPT2Config
) -> None:
    folder = saved(tmp_path / "theirs", geometry)
    assert reading.read_info(folder).geometry == geometry
    ids, expected = np.load(folder / "ids.npy"), np.load(folder / "logits.npy")
    assert worst(logits(folder, ids), expected) < 1e-5
    back = convert(folder, tmp_path / "hf")
    model = GPT2LMHeadModel.from_pretrained(back).eval()
    with torch.no_grad():
        assert worst(model(torch.from_numpy(ids)).logits.numpy(), expected) < 1e-5


def test_its_classifier_keeps_its_score(tmp_path: Path) -> None:
    folder = saved(tmp_path / "theirs", SMALL, "--labels", 3)
    model = GPT2ForSequenceClassification.from_pretrained(
        convert(folder, tmp_path / "hf"), pad_token_id=SMALL.vocab + 1
    ).eval()
    with torch.no_grad():
        found = model(torch.from_numpy(np.load(folder / "ids.npy"))).logits.numpy()
    assert worst(found, np.load(folder / "logits.npy")) < 1e-5


def plain(folder: Path) -> Path:
    """The same checkpoint without its adapter."""
    (folder / "plain").mkdir()
    stored = ckptfile.stored(folder / "mindspore_model.ckpt")
    base = {name: tensor for name, tensor in stored.items() if "_lora_" not in name}
    ckptfile.write(folder / "plain" / "a.ckpt", base)
    shutil.copy(folder / "mindspore_model.yaml", folder / "plain" / "a.yaml")
    return folder / "plain"


def test_its_lora_is_merged_or_becomes_an_adapter_of_peft(tmp_path: Path) -> None:
    from peft import PeftModel  # noqa: PLC0415  # slow, and only here

    folder = saved(tmp_path / "theirs", SMALL, "--lora", 4)
    ids, expected = np.load(folder / "ids.npy"), np.load(folder / "logits.npy")
    assert worst(logits(folder, ids), expected) < 1e-5
    merged = convert(folder, tmp_path / "merged", merge=True)
    assert worst(logits(merged, ids), expected) < 1e-5
    adapter = convert(folder, tmp_path / "adapter", to="peft")
    model = GPT2LMHeadModel.from_pretrained(convert(plain(folder), tmp_path / "base"))
    with torch.no_grad():
        with_adapter = PeftModel.from_pretrained(model, adapter).eval()(torch.from_numpy(ids))
    assert worst(with_adapter.logits.numpy(), expected) < 1e-5


def test_rows_of_classes_are_read_by_it_and_its_own_are_read_here(tmp_path: Path) -> None:
    texts = [("the cat", 1), ("a dog", 0), ("the old cat sat", 1), ("a bird", 0)] * 2
    lines = [json.dumps({"text": text, "label": label}) for text, label in texts]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    source = prepare.opened(
        str(tmp_path / "a.jsonl"), form="jsonl", text_column="text", header=True, quotes=True,
        max_bad_rows=0,
    )  # fmt: skip
    ours = tmp_path / "ours"
    prepare.prepare_classes(source, ours, ("0", "1"), seq_length=12)
    inside("read-classes", ours)
    assert np.load(ours / "labels.npy").ravel().tolist() == [label for _, label in texts]
    (tmp_path / "theirs").mkdir()
    for array in ours.glob("*.npy"):
        shutil.copy(array, tmp_path / "theirs")
    inside("write-classes", tmp_path / "theirs")
    form = DataFormat(format="mindrecord")
    one, other = (mindrecord.read_classes(Source.open(str(tmp_path / name), form))
                  for name in ("ours", "theirs"))  # fmt: skip
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
