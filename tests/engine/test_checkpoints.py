"""The layout that wrote a checkpoint, and what a resume under another one says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt2dsl.engine import checkpoints
from gpt2dsl.engine.rundir import RunDirectory
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.weights import store, training_state

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
