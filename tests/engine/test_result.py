"""The document of a result."""

from __future__ import annotations

import pytest

from gpt2dsl.engine.job import Result


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_a_training_tells_its_steps_also_where_it_did_none(task: str) -> None:
    assert Result(task=task, loss=0.0).to_json() == {"task": task, "steps": 0, "loss": 0.0}


@pytest.mark.parametrize("task", ["evaluate", "generate", "convert", "serve"])
def test_other_tasks_have_no_steps(task: str) -> None:
    assert Result(task=task, tokens=3).to_json() == {"task": task, "tokens": 3}
