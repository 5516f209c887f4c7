from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from gpt2dsl import LoRA, Model, Recipe, Task
from gpt2dsl.identity.identity import PENDING, Identity
from gpt2dsl.identity.rules import CONTENTS, PARTS, VALUES, rule_of
from gpt2dsl.parts import TABLES, TASKS
from gpt2dsl.plan.identify import identity_of
from tests.strategies import recipes


def of(recipe: Recipe) -> Identity:
    return identity_of(recipe.completed, (), None, compute=False)


@given(recipes())
def test_an_identity_read_again_differs_in_nothing(recipe: Recipe) -> None:
    identity = of(recipe)
    again = Identity.from_json(json.loads(json.dumps(identity.to_json())))
    assert list(identity.differences(again)) == []
    assert again.digest == identity.digest


def test_every_difference_has_its_value_before_and_now() -> None:
    before = Identity(values={"train.batch_size": 2}, contents={"task.data": "a" * 32})
    now = Identity(values={"train.batch_size": 4}, contents={"task.data": "b" * 32})
    batch, data = now.differences(before)
    assert str(batch) == "train.batch_size 2 -> 4"
    assert (data.name, data.change) == ("the contents of task.data", "aaaaaaaa.. -> bbbbbbbb..")
    assert batch.rule.kind == data.rule.kind == "equal"


def test_contents_that_are_pending_are_not_known_to_differ() -> None:
    before = Identity(values={}, contents={"task.data": "a"})
    now = Identity(values={}, contents={"task.data": PENDING})
    assert list(now.differences(before)) == []
    assert now.is_pending


@pytest.mark.parametrize(
    ("key", "value", "differs"),
    [("train.clip", 1.0, False), ("train.clip", 2.0, True), ("task.eval_data", "", False)],
)
def test_a_key_that_an_earlier_release_did_not_have_counts_as_its_default(
    key: str, value: Any, differs: bool
) -> None:
    before = Identity(values={"train.seed": 0, "task.kind": "pretrain"}, contents={})
    now = Identity(values={**before.values, key: value}, contents={})
    assert bool(list(now.differences(before))) is differs


def test_a_part_that_comes_or_goes_differs() -> None:
    plain = Model(weights="m") | Task.finetune(data="d")
    with_lora = plain | LoRA(r=4)
    for before, now in ((plain, with_lora), (with_lora, plain)):
        found = list(of(now).differences(of(before)))
        assert {one.key for one in found} >= {"lora.r"}
        assert all(one.rule.kind == "equal" for one in found if one.key == "lora.r")


def test_every_key_of_the_tables_is_one_of_a_part() -> None:
    known = {
        f"{table}.{name}"
        for table, part in TABLES.items()
        if table != "task"
        for name in part.rules()
    }
    known |= {f"task.{name}" for task in TASKS.values() for name in task.rules()} | {"task.kind"}
    assert {*VALUES, *CONTENTS} <= known
    assert set(PARTS) <= set(TABLES)
    for key in known:
        assert rule_of(key, is_content=False).words
