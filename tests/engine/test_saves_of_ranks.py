"""Checkpoints to which each rank writes its part: read as a whole save of the same state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.weights import reading, store, training_state
from gpt2dsl.weights.files.lazy_tensor import Arrays
from tests import ranks
from tests.engine import rank_saves
from tests.engine.conftest import text

CASES = [
    (dims, zero)
    for dims in ((2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 2, 2), (2, 2, 1), (2, 1, 2), (4, 1, 1))
    for zero in ((False, True) if dims[0] > 1 else (False,))
]
FEW = [((2, 2, 1), True), ((1, 1, 2), False)]


def saved(folder: Path, dims: tuple[int, int, int], **case: Any) -> dict[str, Any]:
    """What the ranks of a case tell."""
    Tokenizer.train([text(20)], 280).save(folder / "tokenizer")
    described = {"zero": False, "async": True, "params": "float32", "optim": "adamw"} | case
    (folder / rank_saves.CASE).write_text(json.dumps(described | {"dims": dims}))
    count = ParallelDims(*dims).count
    told: dict[str, Any] = ranks.told_by(rank_saves, folder, collective=60, ranks=count)
    return told


def checkpoint_of(folder: Path) -> Path:
    newest = store.newest(folder / "checkpoints")
    assert newest.folder
    assert not newest.skipped
    assert [path.name for path in newest.folder.parent.iterdir()] == [f"step-{rank_saves.STEP}"]
    return newest.folder


def check_equal(folder: Path) -> None:
    """That all readers find the bits of the whole save."""
    checkpoint = checkpoint_of(folder)
    expected = load_file(folder / rank_saves.WHOLE)
    weights, (states, _) = reading.read(checkpoint).arrays, training_state.read(checkpoint)
    found = {**weights, **Arrays(states)}
    masters = {name for name in found if name.startswith("master.")}
    assert found.keys() - masters == expected.keys()
    for name in expected:
        exact = found.get(f"master.{name}", found[name])
        assert exact.tobytes() == expected[name].tobytes(), name


def sizes(checkpoint: Path) -> list[int]:
    """Bytes of each rank's tensors."""
    files = sorted(checkpoint.glob("rank_*/model.safetensors"))
    return [sum(array.nbytes for array in load_file(file).values()) for file in files]


@pytest.mark.parametrize(
    ("dims", "zero"),
    [
        *FEW,
        *(pytest.param(*case, marks=pytest.mark.soak) for case in CASES if case not in FEW),
    ],
)
def test_ranks_save_their_parts_with_the_bits_of_a_whole_save_and_send_nothing(
    tmp_path: Path, dims: tuple[int, int, int], zero: bool
) -> None:
    told = saved(tmp_path, dims, zero=zero)
    check_equal(tmp_path)
    assert told["sent"] <= 2**20
    if dims[0] > 1:  # each byte is written once, but for what does not divide
        expected = sum(array.nbytes for array in load_file(tmp_path / rank_saves.WHOLE).values())
        assert sum(sizes(checkpoint_of(tmp_path))) <= 1.25 * expected


@pytest.mark.parametrize(
    "case",
    [
        pytest.param({"params": "float16"}, id="masters"),
        pytest.param({"optim": "sgd", "async": False}, id="sgd", marks=pytest.mark.soak),
        pytest.param({"params": "bfloat16", "zero": True}, id="zero", marks=pytest.mark.soak),
    ],
)
def test_what_ranks_save_is_equal_in_every_precision(tmp_path: Path, case: dict[str, Any]) -> None:
    saved(tmp_path, (2, 1, 1), **case)
    check_equal(tmp_path)
