from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import (
    Classifier,
    InputError,
    Model,
    Optim,
    Parallel,
    Recipe,
    Runtime,
    Task,
    Train,
)
from gpt2dsl.library import compare, runs
from gpt2dsl.library.compare import ABSENT, ComparedKey
from gpt2dsl.parts.bundle import Parts
from tests.library.run_directories import make

BASE = Recipe(Model(size="124m")) | Task.finetune(data="a.txt")


def recipes(a: Recipe, b: Recipe) -> dict[str, tuple[Any, Any]]:
    rows = compare.recipes(Parts.of(a.parts.values()), Parts.of(b.parts.values()))
    return {row.key: row.values for row in rows}


def test_equal_recipes_differ_in_nothing_however_they_are_written() -> None:
    assert recipes(BASE, BASE | Optim() | Train(epochs=1)) == {}
    assert recipes(BASE, BASE.set("model.size", "small")) == {}


def test_every_value_that_differs_is_told_with_defaults_in_the_order_of_the_tables() -> None:
    other = BASE | Optim(lr=3e-4) | Parallel(dp=2) | Runtime(output="elsewhere") | Train(steps=9)
    found = recipes(BASE, other)
    assert found == {
        "parallel.dp": (1, 2),
        "train.epochs": (1, None),
        "train.steps": (None, 9),
        "optim.lr": (1e-4, 3e-4),
        "runtime.output": ("runs", "elsewhere"),
    }
    assert [key.partition(".")[0] for key in found] == [
        "parallel", "train", "train", "optim", "runtime",
    ]  # fmt: skip


def test_a_part_that_is_absent_is_told_with_every_value_of_the_other() -> None:
    found = recipes(BASE, BASE | Classifier(labels=4))
    assert found["classifier.labels"] == (ABSENT, 4)
    assert set(found) == {f"classifier.{name}" for name in Classifier.rules()}


def test_tasks_of_two_kinds_share_the_keys_that_both_have() -> None:
    found = recipes(BASE, Recipe(Model(size="124m")) | Task.evaluate(data="a.txt"))
    assert found["task.kind"] == ("finetune", "evaluate")
    assert found["task.eval_data"] == ("", ABSENT)
    assert "task.data" not in found


def test_json_leaves_out_the_side_that_is_absent_and_keeps_null() -> None:
    assert ComparedKey("a.b", (ABSENT, None)).to_json() == {"key": "a.b", "b": None}


def test_plans_differ_in_numbers_and_in_the_digests_of_inputs(tmp_path: Path) -> None:
    data = {"key": "task.data", "digest": "b" * 64}
    weights = {"key": "model.weights", "state": "absent", "digest": ""}
    a = make(tmp_path / "a")
    b = make(
        tmp_path / "b",
        trained=7,
        batches={"rows": 13, "steps": 3},
        inputs=[data, weights, "not an input"],
    )
    assert compare.plans(runs.plan(a), runs.plan(b)) == [
        ComparedKey("trained", (100, 7)),
        ComparedKey("rows", (12, 13)),
        ComparedKey("task.data (sha256)", ("a" * 64, "b" * 64)),
        ComparedKey("model.weights (sha256)", (ABSENT, "absent")),
    ]


def test_results_stand_side_by_side_with_best_and_last_evaluation(tmp_path: Path) -> None:
    a = make(tmp_path / "a", losses=[4.0, 3.0, 2.0], evaluations={0: 5.0, 2: 2.5, 3: 2.75})
    b = make(tmp_path / "b", losses=[4.0], done=False)
    found = {row.key: row for row in compare.results(runs.read(a), runs.read(b))}
    assert found["state"] == ComparedKey("state", ("done", "stopped at step 1 of 3"))
    assert found["loss"] == ComparedKey("loss", (2.5, 4.0))
    assert found["loss_of"] == ComparedKey("loss_of", ("held out", "training"))
    assert found["perplexity"] == ComparedKey("perplexity", (12.18, ABSENT))
    assert found["best_evaluation"].values[0] == {"step": 2, "loss": 2.5}
    assert found["last_evaluation"].values[0] == {"step": 3, "loss": 2.75}


@pytest.mark.parametrize(
    ("losses", "common", "unequal", "apart"),
    [
        ([4.0, 3.0], 2, None, None),
        ([4.0, 3.0, 2.0, 1.0], 3, None, None),
        ([4.0, 3.000001, 2.0], 3, 2, None),
        ([4.0, 3.000001, 2.1], 3, 2, 3),
        ([], 0, None, None),
    ],
)
def test_losses_are_followed_over_common_steps_until_they_part(
    losses: list[float], common: int, unequal: int | None, apart: int | None, tmp_path: Path
) -> None:
    a = runs.read(make(tmp_path / "a", losses=[4.0, 3.0, 2.0]))
    b = runs.read(make(tmp_path / "b", losses=losses, done=False))
    found = compare.losses(a, b)
    assert found is not None
    assert found.common == common
    assert (found.unequal.step if found.unequal else None) == unequal
    assert (found.apart.step if found.apart else None) == apart


def test_runs_that_train_nothing_have_no_losses_to_compare(tmp_path: Path) -> None:
    a, b = (runs.read(make(tmp_path / name, losses=[])) for name in "ab")
    assert compare.losses(a, b) is None


def test_damaged_metrics_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a", losses=[1.0])
    run = runs.read(path)
    (path / "metrics.jsonl").write_text("x\n")
    with pytest.raises(InputError, match="a line is 'x'"):
        compare.losses(run, run)
