"""Layouts of checkpoints, with MindSpore's own transform_checkpoints as the judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from gpt2dsl.errors import InputError
from gpt2dsl.layout.ranks import Ranks
from gpt2dsl.weights import place, reading, resharding, store
from gpt2dsl.weights.files import ckptfile, strategyfile, tensorfile
from gpt2dsl.weights.files.stored import Stored
from gpt2dsl.weights.resharding import Target
from tests.weights import checkpoints
from tests.weights.checkpoints import WIDE, equal, values, whole

WHOLE = Target(ranks=Ranks())


def random_pairs(count: int) -> list[tuple[Target, Target]]:
    random = np.random.default_rng(7)

    def one() -> Target:
        dp, mp, pp = (
            int(random.choice(numbers)) for numbers in ((1, 2, 4), (1, 2, 4, 8), (1, 2, 3))
        )
        return Target(ranks=Ranks(dp, mp, pp), zero=bool(random.integers(2)))

    found: list[tuple[Target, Target]] = []
    while len(found) < count:
        pair = one(), one()
        if all(1 < target.ranks.count <= 16 for target in pair):
            found.append(pair)
    return found


def named(target: Target) -> str:
    ranks = target.ranks
    return f"dp{ranks.dp}-mp{ranks.mp}-pp{ranks.pp}" + ("-zero" if target.zero else "")


PAIRS = random_pairs(30)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole(tmp_path_factory.mktemp("whole") / "step-3")


def merged_strategy(folder: Path, target: Target, out: Path) -> str:
    """What MindSpore takes: one file, of pipelines a merged one."""
    if target.ranks.pp == 1:
        return str(folder / place.STRATEGY / f"{strategyfile.PREFIX}_rank_0.ckpt")
    mindspore.merge_pipeline_strategys(str(folder / place.STRATEGY), str(out))
    return str(out)


def in_mindspores_format(folder: Path, out: Path) -> Path:
    """The ranks' files as .ckpt: of safetensors MindSpore 2.10 loses tied tables of pipelines."""
    for file in folder.glob(f"rank_*/{place.WEIGHTS}"):
        (out / file.parent.name).mkdir(parents=True)
        ckptfile.write(out / file.parent.name / "model.ckpt", tensorfile.stored(file))
    return out


def read_all(tensors: dict[str, Stored]) -> checkpoints.Values:
    return {name: one.rows(0, one.length).reshape(one.shape) for name, one in tensors.items()}


@pytest.mark.parametrize(
    ("one", "other"), PAIRS, ids=[f"{named(a)}-to-{named(b)}" for a, b in PAIRS]
)
def test_a_layout_becomes_another_as_mindspore_makes_it_and_comes_back(
    source: Path, tmp_path: Path, one: Target, other: Target
) -> None:
    first, second, back = (tmp_path / name for name in ("first", "second", "back"))
    digests = {
        checkpoints.reshard(source, first, one),
        checkpoints.reshard(first, second, other),
        checkpoints.reshard(second, back, WHOLE),
    }
    assert len(digests) == 1
    equal(values(back), values(source))
    theirs = tmp_path / "theirs"
    mindspore.transform_checkpoints(
        str(in_mindspores_format(first, tmp_path / "ckpt")),
        str(theirs),
        "checkpoint_",
        merged_strategy(first, one, tmp_path / "one.ckpt"),
        merged_strategy(second, other, tmp_path / "other.ckpt"),
    )
    for rank in range(other.ranks.count):
        expected = ckptfile.stored(theirs / f"rank_{rank}" / f"checkpoint_{rank}.ckpt")
        equal(load_file(second / f"rank_{rank}" / place.WEIGHTS), read_all(expected))
