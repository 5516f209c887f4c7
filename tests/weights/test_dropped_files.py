"""A file more in a checkpoint is carried by every copy, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl.errors import InputError
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.weights import reading, store
from gpt2dsl.weights.resharding import Target
from gpt2dsl.weights.writing import prepared
from tests.weights.checkpoints import reshard, whole


def with_file(source: Path, folder: Path, name: str) -> Path:
    with store.writing(folder) as new:
        for path in source.rglob("*"):
            if path.is_file() and path.name != store.MANIFEST:
                copy = new / path.relative_to(source)
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes(path.read_bytes())
        (new / name).parent.mkdir(exist_ok=True)
        (new / name).write_bytes(b"new")
    return folder


@pytest.mark.parametrize("name", ["ema.safetensors", "sampler.json", "parts/a.bin"])
def test_a_copy_that_would_lack_a_file_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    newer = with_file(whole(tmp_path / "whole"), tmp_path / "newer", name)
    weights = reading.read(newer)
    with pytest.raises(InputError, match=name) as caught:
        prepared(weights, weights.tensors)
    assert caught.value.faults[0].code == "G2-304"


def test_a_rank_may_have_no_unknown_file(tmp_path: Path) -> None:
    layout = Target(ranks=ParallelDims(dp=1, mp=2, pp=1))
    reshard(whole(tmp_path / "whole"), tmp_path / "split", layout)
    newer = with_file(tmp_path / "split", tmp_path / "newer", "rank_1/rng.bin")
    weights = reading.read(newer)
    with pytest.raises(InputError, match=r"rank_1/rng\.bin"):
        prepared(weights, weights.tensors)


def test_whole_and_split_checkpoints_have_no_file_that_a_copy_would_lack(tmp_path: Path) -> None:
    source = whole(tmp_path / "whole")
    reshard(source, tmp_path / "split", Target(ranks=ParallelDims(dp=1, mp=2, pp=2)))
    for folder in (source, tmp_path / "split"):
        weights = reading.read(folder)
        assert prepared(weights, weights.tensors).size > 0
