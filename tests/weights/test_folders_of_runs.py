"""Folders of runs, chains and runs without weights, named where weights are expected."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gpt2dsl.errors import InputError
from gpt2dsl.weights import location


def left(run: Path, task: str, *, number: int = 0, saved: bool = False, weights: str = "") -> Path:
    """Make what a run leaves, or a stage of a chain, which has a number."""
    run.mkdir(parents=True)
    inputs = [{"key": "model.weights", "name": "runs/small"}] if task == "evaluate" else []
    (run / "plan.json").write_text(json.dumps({"task": task, "inputs": inputs}))
    if number:
        stage = {"task": task, "number": number, "weights": weights}
        (run / "stage.json").write_text(json.dumps(stage))
    if saved:
        (run / "checkpoints" / "step-2").mkdir(parents=True)
    return run


def said(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        location.find(folder)
    (fault,) = caught.value.faults
    assert (fault.code, fault.key) == ("G2-304", str(folder))
    return fault.message


def test_a_chain_names_its_stages_with_weights_the_last_one_first(tmp_path: Path) -> None:
    left(tmp_path / "pretrain-1", "pretrain", number=1, saved=True)
    left(tmp_path / "evaluate-2", "evaluate", number=2)
    left(tmp_path / "convert-3", "convert", number=3, weights=str(tmp_path))
    left(tmp_path / "export-4", "export", number=4)
    left(tmp_path / "finetune-5", "finetune", number=5, saved=True)
    start = "it is the folder of a chain; name a stage of it"
    assert said(tmp_path) == f"{start}: finetune-5, {tmp_path}, pretrain-1"
    left(tmp_path / "finetune-6", "finetune", saved=True)  # it was killed
    assert said(tmp_path).startswith(f"{start}: finetune-6, finetune-5, ")
    assert said(tmp_path / "convert-3") == f"it is a stage of convert; its weights are {tmp_path}"


def test_a_folder_of_runs_names_the_newest_with_weights(tmp_path: Path) -> None:
    for age, name in enumerate(("e", "d", "c", "b")):
        run = left(tmp_path / name, "pretrain", saved=True)
        for path in (*run.iterdir(), run):
            os.utime(path, (1e9 - age, 1e9 - age))
    left(tmp_path / "judged", "evaluate")
    left(tmp_path / "chain" / "pretrain-1", "pretrain", number=1, saved=True)
    start = "it is a folder of runs; name one of them"
    assert said(tmp_path) == f"{start}: chain, e, d, and 2 more"


def test_runs_without_weights_say_so(tmp_path: Path) -> None:
    judged = left(tmp_path / "judged", "evaluate")
    words = "it is a run of evaluate, which leaves no weights; those that it read are runs/small"
    assert said(judged) == words
    begun = left(tmp_path / "begun", "pretrain")
    assert said(begun) == "it is a run of pretrain, which has not written a checkpoint"
    assert said(tmp_path) == "it is a folder of runs; none of them has weights"


def test_damaged_records_of_a_run_are_passed_over(tmp_path: Path) -> None:
    (left(tmp_path / "a", "evaluate") / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"G2-301"):
        location.find(tmp_path / "a")
