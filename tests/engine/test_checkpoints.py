"""Which checkpoint ranks resume from, the layout that wrote it, and what another one says."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import attrs
import pytest

from gpt2dsl.engine import checkpoints
from gpt2dsl.engine.find_checkpoint import files_of, find
from gpt2dsl.engine.rundir import RunDirectory
from gpt2dsl.errors import InputError
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.weights import store, training_state
from gpt2dsl.weights.files import hashing

ALONE, COPIES, SHARDS = ParallelDims(), ParallelDims(dp=2), ParallelDims(mp=2)
OTHER = "; dp 1 x mp 2 x pp 1, before dp 2 x mp 1 x pp 1: equal but for rounding"


def written(run: Path, step: int, layout: ParallelDims | None) -> Path:
    """Write a checkpoint without weights; one of an earlier release notes no layout."""
    folder = run / "checkpoints" / f"step-{step}"
    state = {"step": step} | ({"layout": str(layout)} if layout else {})
    with store.writing(folder, {"step": step}, {}) as unfinished:
        training_state.write_state(unfinished, state)
    return folder


def trained(
    run: RunDirectory, first: int, last: int, reached: int | None, to: ParallelDims
) -> None:
    """Note a process that did the steps after ``first`` and up to ``last``."""
    run.forget_after(first)
    run.attempt(first, reached, to)
    for step in range(first + 1, last + 1):
        run.log(step=step, loss=1.0)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run of two copies until step 7; two shards went on from step 5, and were killed at 9."""
    noted = RunDirectory(tmp_path)
    trained(noted, 0, 7, None, COPIES)
    trained(noted, 5, 9, 7, SHARDS)
    return noted


@pytest.mark.parametrize("noted", [COPIES, None], ids=["in its state", "in the attempts"])
def test_a_checkpoint_is_of_the_layout_that_wrote_it_not_of_the_last_process(
    run: RunDirectory, noted: ParallelDims | None
) -> None:
    folder = written(run.path, 5, noted)
    assert checkpoints.relaid(folder, SHARDS) == OTHER
    assert checkpoints.relaid(folder, COPIES) == ""
    run.forget_after(5)
    assert checkpoints.relaid(folder, SHARDS) == OTHER
    trained(run, 5, 5, 9, SHARDS)  # killed before its first step
    assert checkpoints.relaid(folder, SHARDS) == OTHER


@pytest.mark.parametrize("noted", [SHARDS, None], ids=["in its state", "in the attempts"])
def test_a_checkpoint_after_the_layout_changed_is_of_the_later_one(
    run: RunDirectory, noted: ParallelDims | None
) -> None:
    folder = written(run.path, 8, noted)
    assert checkpoints.relaid(folder, SHARDS) == ""
    assert checkpoints.relaid(folder, ALONE).startswith("; 1 rank, before dp 1 x mp 2")


def test_a_checkpoint_of_a_run_that_noted_nothing_is_of_no_known_layout(tmp_path: Path) -> None:
    assert checkpoints.relaid(written(tmp_path, 5, None), SHARDS) == ""
    (tmp_path / "attempts.jsonl").write_text(json.dumps({"time": "", "step": 0}) + "\n")
    assert checkpoints.relaid(written(tmp_path, 6, None), SHARDS) == ""


def test_other_micro_batches_are_told_where_the_checkpoint_notes_them(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "step-5"
    with store.writing(folder, {"step": 5}, {}) as unfinished:
        training_state.write_state(unfinished, {"layout": str(ALONE), "micro_batches": 2})
    assert checkpoints.relaid(folder, ALONE, 2) == ""
    end = "micro_batches 4, before 2: equal but for rounding"
    assert checkpoints.relaid(folder, ALONE, 4) == f"; {end}"
    assert checkpoints.relaid(folder, COPIES, 4) == f"; {COPIES}, before {ALONE}; {end}"
    assert checkpoints.relaid(written(tmp_path, 6, ALONE), ALONE, 4) == ""  # an earlier release


NAMES = [
    "config.json", "manifest.json", "model-1.safetensors", "model-2.safetensors",
    *(f"rank_{i}/model.safetensors" for i in range(6)),
]  # fmt: skip


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_each_file_is_compared_by_one_rank_its_own_by_itself(ranks: int) -> None:
    shares = [files_of(rank, ranks, NAMES) for rank in range(ranks)]
    assert sorted(name for share in shares for name in share) == sorted(NAMES)
    assert {"config.json", "manifest.json"} <= shares[0]
    for rank in range(min(ranks, 6)):
        assert f"rank_{rank}/model.safetensors" in shares[rank]


@attrs.define
class Team:
    """Ranks that are threads."""

    rank: int
    dims: ParallelDims
    barrier: Barrier
    table: dict[int, Any]

    def gather(self, mine: Any) -> list[Any]:
        self.table[self.rank] = mine
        self.barrier.wait(60)
        every = [self.table[rank] for rank in range(self.dims.count)]
        self.barrier.wait(60)
        return every

    def all_gather(self, *numbers: float) -> list[tuple[float, ...]]:
        return self.gather(numbers)


def by_ranks(parent: Path, resume: str, count: int = 3) -> list[Any]:
    """What each rank finds: a folder, or its error."""
    barrier = Barrier(count)
    table: dict[int, Any] = {}

    def run(rank: int) -> Any:
        team: Any = Team(rank, ParallelDims(dp=count), barrier, table)
        try:
            return find(parent, resume, team)
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_ranks_agree_on_the_newest_checkpoint_that_all_find_intact_and_read_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (2, 4):
        with store.writing(tmp_path / f"step-{step}", {"step": step}) as folder:
            for name in NAMES[2:]:
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(b"1234")
    compared: list[str] = []
    before = hashing.checksum

    def spied(path: Path) -> str:
        compared.append(str(path.relative_to(tmp_path)))
        return before(path)

    monkeypatch.setattr(store, "checksum", spied)
    assert by_ranks(tmp_path, "auto") == [tmp_path / "step-4"] * 3
    assert sorted(compared) == sorted(f"step-4/{name}" for name in NAMES[2:])
    (tmp_path / "step-4" / "rank_1" / "model.safetensors").write_bytes(b"1235")
    assert by_ranks(tmp_path, "auto") == [tmp_path / "step-2"] * 3
    found = by_ranks(tmp_path / "elsewhere", str(tmp_path / "step-4"))
    assert len(set(found)) == 1
    assert "rank_1/model.safetensors: it is damaged" in found[0]
    (tmp_path / "step-4" / "manifest.json").unlink()
    (tmp_path / "step-2" / "model-1.safetensors").unlink()
    assert by_ranks(tmp_path, "auto") == [None] * 3
    assert by_ranks(tmp_path, "never") == [None] * 3
