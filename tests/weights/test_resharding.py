"""Layouts of checkpoints, with MindSpore's own transform_checkpoints as the judge."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import mindspore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.local_params import local_params, on_stages
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.schema.folder import STRATEGY, WEIGHTS
from gpt2dsl.weights import resharding, store, training_state
from gpt2dsl.weights.files import ckptfile, strategyfile, tensorfile
from gpt2dsl.weights.files.lazy_tensor import LazyTensor
from gpt2dsl.weights.resharding import Target
from tests.weights import checkpoints
from tests.weights.checkpoints import WIDE, equal, values, whole

WHOLE = Target(ranks=ParallelDims())


def random_pairs(count: int) -> list[tuple[Target, Target]]:
    random = np.random.default_rng(7)

    def one() -> Target:
        dp, mp, pp = (
            int(random.choice(numbers)) for numbers in ((1, 2, 4), (1, 2, 4, 8), (1, 2, 3))
        )
        return Target(ranks=ParallelDims(dp, mp, pp), zero=bool(random.integers(2)))

    found: list[tuple[Target, Target]] = []
    while len(found) < count:
        pair = one(), one()
        if all(1 < target.ranks.count <= 16 for target in pair):
            found.append(pair)
    return found


def named(target: Target) -> str:
    ranks = target.ranks
    return f"dp{ranks.dp}-mp{ranks.mp}-pp{ranks.pp}" + ("-zero" if target.zero else "")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole(tmp_path_factory.mktemp("whole") / "step-3")


def merged_strategy(folder: Path, target: Target, out: Path) -> str:
    """What MindSpore takes: one file, of pipelines a merged one."""
    if target.ranks.pp == 1:
        return str(folder / STRATEGY / f"{strategyfile.PREFIX}_rank_0.ckpt")
    mindspore.merge_pipeline_strategys(str(folder / STRATEGY), str(out))
    return str(out)


def in_mindspores_format(folder: Path, out: Path) -> Path:
    """The ranks' files as .ckpt: of safetensors MindSpore 2.10 loses tied tables of pipelines."""
    for file in folder.glob(f"rank_*/{WEIGHTS}"):
        (out / file.parent.name).mkdir(parents=True)
        ckptfile.write(out / file.parent.name / "model.ckpt", tensorfile.stored(file))
    return out


def read_all(tensors: dict[str, LazyTensor]) -> checkpoints.Values:
    return {name: one.rows(0, one.length).reshape(one.shape) for name, one in tensors.items()}


def cases() -> list[Any]:
    """`make test` takes each fifth, `make soak` the others."""
    return [
        pytest.param(
            one,
            other,
            id=f"{named(one)}-to-{named(other)}",
            marks=[pytest.mark.soak] if i % 5 else [],
        )
        for i, (one, other) in enumerate(random_pairs(30))
    ]


@pytest.mark.parametrize(("one", "other"), cases())
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
        equal(load_file(second / f"rank_{rank}" / WEIGHTS), read_all(expected))


GEOMETRIES = st.builds(
    GPT2Config,
    layers=st.integers(1, 5),
    heads=st.just(4),
    hidden=st.sampled_from([8, 20]),
    positions=st.integers(1, 9),
    vocab=st.integers(3, 300),
    inner=st.sampled_from([0, 4, 12]),
    labels=st.sampled_from([0, 3]),
)
LAYOUTS = st.builds(
    Target,
    ranks=st.builds(
        ParallelDims, dp=st.integers(1, 5), mp=st.sampled_from([1, 2, 4]), pp=st.integers(1, 5)
    ),
    zero=st.booleans(),
)


@settings(max_examples=25, deadline=None)
@given(
    geometry=GEOMETRIES,
    first=LAYOUTS,
    second=LAYOUTS,
    states=st.sampled_from([("m", "v"), ("u",), ("m", "v", "master")]),
    kind=st.sampled_from(["F32", "F16", "BF16"]),
)
def test_there_and_back_is_the_identity(
    geometry: GPT2Config, first: Target, second: Target, states: tuple[str, ...], kind: str
) -> None:
    first, second = (
        attrs.evolve(one, ranks=attrs.evolve(one.ranks, pp=min(one.ranks.pp, geometry.layers)))
        for one in (first, second)
    )
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = whole(folder / "source", geometry, states, kind)
        digests = {
            checkpoints.reshard(source, folder / "first", first),
            checkpoints.reshard(folder / "first", folder / "second", second),
            checkpoints.reshard(folder / "second", folder / "back", WHOLE),
        }
        assert len(digests) == 1
        equal(values(folder / "back"), values(source))
        assert training_state.read(folder / "second")[1] == checkpoints.DOCUMENT


def test_files_of_more_ranks_than_are_open_at_once_are_written_in_turns(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target(ranks=ParallelDims(2, 2, 2))
    together, in_turns = tmp_path / "together", tmp_path / "in turns"
    digest = checkpoints.reshard(source, together, target)
    monkeypatch.setattr(resharding, "AT_ONCE", 3)
    assert checkpoints.reshard(source, in_turns, target) == digest
    files = store.manifest(together)["files"]
    assert store.manifest(in_turns)["files"] == files
    assert sum(name.startswith("rank_") for name in files) == 8


def test_the_digest_is_of_the_weights_whatever_the_layout_and_of_nothing_else(
    source: Path, tmp_path: Path
) -> None:
    found = {
        checkpoints.reshard(
            source, tmp_path / "a", Target(ranks=ParallelDims(2, 2, 1)), training=False
        ),
        checkpoints.reshard(source, tmp_path / "b", Target(ranks=ParallelDims(1, 1, 3), zero=True)),
        checkpoints.reshard(tmp_path / "b", tmp_path / "c", WHOLE, training=False),
    }
    (digest,) = found
    assert store.manifest(tmp_path / "c")["meta"]["digest"] == digest
    other = whole(tmp_path / "other", attrs.evolve(WIDE, layers=4))
    assert checkpoints.reshard(other, tmp_path / "d", WHOLE) != digest


def test_ranks_hold_what_the_plan_of_their_layout_says(source: Path, tmp_path: Path) -> None:
    target = Target(ranks=ParallelDims(2, 4, 2), zero=True)
    checkpoints.reshard(source, tmp_path / "split", target)
    table = {one.name: one for one in local_params(WIDE, mp=4)}
    stages = on_stages(WIDE, list(table.values()), 2)
    for rank in range(16):
        found = load_file(tmp_path / "split" / f"rank_{rank}" / WEIGHTS)
        expected = {one.name for one in stages[target.ranks.coordinates(rank).stage]}
        assert {name for name in found if name in table} == expected
        for name in expected:
            one = table[name]
            assert found[name].size == one.size
            moment = found[f"m.{name}"].size
            assert moment == (
                one.size // 2 if ".c_attn.bias" not in name and one.is_sharded(2) else one.size
            )
