"""What a training writes, and the disk that is too full for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Data, LoRA, Model, Optim, Precision, RunError, Runtime, Task, Train
from gpt2dsl.parts.base import Part
from gpt2dsl.recipe import Recipe

SMALL = Model(size="nano", layers=1, hidden=32) | Data(tokenizer="train", vocab=512)
WEIGHTS = 4 * 37_344
"""Bytes of its parameters."""


def recipe(*parts: Part, **train: Any) -> Recipe:
    """A training of ten steps."""
    whole = SMALL | Train(batch_size=2, seq_length=8, **{"steps": 10, **train})
    whole |= Task.pretrain(data="sample:train", eval_data="sample:valid")
    for one in parts:
        whole |= one
    return whole


@pytest.mark.parametrize(
    ("parts", "times"),
    [
        ((), 3),
        ((Optim(name="sgd"),), 2),
        ((Precision(params="float16", compute="float16"),), 3.5),
    ],
)
def test_a_checkpoint_has_the_weights_and_what_a_resume_needs(
    parts: tuple[Part, ...], times: float
) -> None:
    found = recipe(*parts).plan().disk
    assert found
    assert found.checkpoint == times * WEIGHTS
    assert (found.kept, found.most) == (1, 1)


@pytest.mark.parametrize(
    ("train", "kept", "most"),
    [
        ({"save_every": 4}, 3, 3),
        ({"save_every": 5}, 2, 2),
        ({"save_every": 1}, 3, 4),
        ({"save_every": 1, "keep": 1}, 1, 2),
        ({"save_every": 1, "keep": 20}, 10, 10),
        ({"evaluate_every": 2, "best": True}, 4, 5),
        ({"save_every": 1, "evaluate_every": 2, "best": True, "keep": 1}, 2, 3),
    ],
)
def test_a_new_checkpoint_is_whole_before_the_oldest_goes(
    train: dict[str, Any], kept: int, most: int
) -> None:
    found = recipe(**train).plan().disk
    assert found
    assert (found.kept, found.most) == (kept, most)
    assert found.total == most * 3 * WEIGHTS


def test_the_plan_says_it_in_words() -> None:
    assert "  disk     1 checkpoint of 448.1 kB\n" in str(recipe().plan())
    assert "  disk     896.3 kB: 2 checkpoints of 448.1 kB\n" in str(recipe(save_every=5).plan())
    words = "1.8 MB at most: 3 checkpoints of 448.1 kB, and a new one before the oldest goes"
    assert f"  disk     {words}\n" in str(recipe(save_every=1).plan())
    assert "  disk " not in str((Model(weights="none") | Task.evaluate(data="sample:valid")).plan())


def test_an_adapter_is_a_checkpoint_by_itself() -> None:
    plan = (Model(size="124m") | LoRA(r=8) | Task.finetune(data="sample:train")).plan()
    assert plan.disk
    assert plan.disk.checkpoint == 3 * 4 * plan.trained


def test_a_run_is_refused_at_its_start_where_its_checkpoints_do_not_fit(elsewhere: Path) -> None:
    many = {"keep": 10**13, "save_every": 1, "steps": 10**13}
    plan = (recipe(**many) | Runtime(output="deep/runs")).plan()
    with pytest.raises(RunError, match=r"room for .*: make room, lower train.keep, or name a fo"):
        plan.run()
    chain = recipe() >> recipe(**many).set("data.tokenizer", "auto")
    with pytest.raises(RunError, match=r"stage 2 of 2: .*the checkpoints need"):
        chain.plan().run()
    assert not list(elsewhere.rglob("step-*"))
