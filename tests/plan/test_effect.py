from __future__ import annotations

from typing import Any

import pytest

from gpt2dsl import Model, Recipe, SpecError, Task
from gpt2dsl.parts import TABLES, TASKS
from gpt2dsl.plan.effect import _OF_TRAINING, ROWS

TRAINING = Model(size="124m") | Task.finetune(data="a", eval_data="b")
EVALUATION = Model(size="124m") | Task.evaluate(data="a")


def notes(recipe: Recipe, **values: Any) -> tuple[str, ...]:
    for key, value in values.items():
        recipe = recipe.set(key.replace("__", "."), value)
    return recipe.plan().notes


NOTED: list[tuple[dict[str, Any], str]] = [
    ({"optim__momentum": 0.5}, "optim.momentum changes nothing: adamw has none"),
    ({"optim__name": "sgd", "optim__beta1": 0.5}, "optim.beta1 changes nothing: sgd has none"),
    (
        {"train__evaluate_every": 5, "task__eval_data": ""},
        "train.evaluate_every changes nothing without task.eval_data",
    ),
    ({"precision__loss_scale": "none"}, "precision.loss_scale changes nothing in float32"),
    (
        {"schedule__kind": "cosine", "schedule__power": 2.0},
        "schedule.power changes nothing with schedule.kind = cosine; polynomial has it",
    ),
    (
        {"schedule__cycles": 2},
        "schedule.cycles changes nothing with schedule.kind = polynomial; cosine_restarts has it",
    ),
    (
        {"schedule__kind": "linear", "schedule__end": 1e-6},
        "schedule.end changes nothing with schedule.kind = linear; cosine and polynomial have it",
    ),
    (
        {"data__vocab": 500, "data__tokenizer": "gpt2"},
        "data.vocab changes nothing with data.tokenizer = gpt2; train makes one",
    ),
    (
        {"data__text_column": "body"},
        "data.text_column changes nothing with data.format = text",
    ),
    (
        {"data__label_column": "kind", "data__format": "csv"},
        "data.label_column changes nothing without a classifier",
    ),
    (
        {"data__header": False, "data__format": "jsonl"},
        "data.header changes nothing with data.format = jsonl; csv and tsv have it",
    ),
    (
        {"data__max_bad_rows": 3},
        "data.max_bad_rows changes nothing with data.format = text, which has no rows",
    ),
]


@pytest.mark.parametrize(("values", "note"), NOTED)
def test_the_plan_notes_values_that_change_nothing(values: dict[str, Any], note: str) -> None:
    assert notes(TRAINING) == ()
    assert notes(TRAINING, **values) == (note,)


@pytest.mark.parametrize(
    "values",
    [
        {"optim__name": "sgd", "optim__momentum": 0.5},
        {"schedule__power": 2.0, "schedule__end": 1e-6},
        {"schedule__kind": "cosine_restarts", "schedule__cycles": 2},
        {"data__tokenizer": "train", "data__vocab": 500, "model__weights": "random"},
        {"data__format": "csv", "data__header": False, "data__text_column": 0},
        {"data__format": "jsonl", "data__max_bad_rows": 3},
        {"train__evaluate_every": 5, "train__patience": 2, "train__save_every": 3},
    ],
)
def test_what_has_its_effect_is_not_noted(values: dict[str, Any]) -> None:
    assert notes(TRAINING, **values) == ()


def test_what_only_a_training_looks_at_is_noted_where_nothing_is_trained() -> None:
    assert notes(EVALUATION, optim__lr=1.0, schedule__power=2.0, train__steps=3) == (
        "optim, schedule, train.steps change nothing: evaluate trains nothing",
    )
    assert notes(EVALUATION, model__dropout=0.5) == (
        "model.dropout changes nothing: evaluate trains nothing",
    )
    assert notes(EVALUATION, train__batch_size=2, train__seq_length=8) == ()


def test_every_key_of_the_table_is_one() -> None:
    keys = {
        f"{name}.{key}"
        for name, cls in TABLES.items()
        for key in ({} if name == "task" else cls.rules())
    } | {f"task.{key}" for cls in TASKS.values() for key in cls.rules()}
    assert {key for row in ROWS for key in row.keys} <= keys
    idle = {f"{table}.{key}" for table, found in _OF_TRAINING.items() for key in found or ()}
    assert idle <= keys


def test_a_fault_is_no_note() -> None:
    with pytest.raises(SpecError):
        notes(TRAINING, train__best=True)


def test_weights_that_are_all_new_miss_none() -> None:
    recipe = Model(size="124m", allow_missing="x") | Task.pretrain(data="a")
    assert "model.allow_missing changes nothing: all weights are new" in recipe.plan().notes
