"""Metrics that an evaluation is asked for, and can't give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from gpt2dsl import Classifier, Data, Model, Recipe, SpecError, Task, Train
from gpt2dsl.layout.config import REGRESSION
from gpt2dsl.plan.tasks import plan_of


def evaluation(tmp_path: Path, asked: Sequence[str], *, classifies: bool) -> Recipe:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "a cat,0\na dog,1\n" * 8)
    recipe = Recipe(
        Model(size="nano", weights="random"),
        Data(format="csv" if classifies else "text"),
        Train(batch_size=4, seq_length=8),
        Task.evaluate(data=str(path), metrics=asked),
    )
    return recipe | Classifier(labels=2) if classifies else recipe


@pytest.mark.parametrize(
    ("classifies", "asked", "words"),
    [
        (False, "accuracy", "a language model has no accuracy: leave it out or ask for perplexity"),
        (True, "perplexity", "a classifier has no perplexity: leave it out or ask for accuracy"),
    ],
)
def test_an_evaluation_that_would_give_none_of_its_metrics_is_refused(
    tmp_path: Path, asked: str, words: str, *, classifies: bool
) -> None:
    recipe = evaluation(tmp_path, [asked], classifies=classifies)
    (fault,) = recipe.faults()
    assert (fault.code, fault.message) == ("G2-107", words)
    assert fault.key.startswith("task.metrics = ")
    with pytest.raises(SpecError, match=words):
        recipe.plan()
    other = {"accuracy": "perplexity", "perplexity": "accuracy"}[asked]
    recipe = evaluation(tmp_path, [other], classifies=classifies)
    assert recipe.faults() == ()
    assert not any("metrics" in note for note in recipe.plan().notes)


@pytest.mark.parametrize("classifies", [False, True])
def test_a_metric_that_is_not_given_beside_another_is_noted(
    tmp_path: Path, *, classifies: bool
) -> None:
    plan = evaluation(tmp_path, ["perplexity", "accuracy"], classifies=classifies).plan()
    who, what = ("a classifier", "perplexity") if classifies else ("a language model", "accuracy")
    assert f"task.metrics: {who} has no {what}" in plan.notes


def test_a_regression_has_neither_metric(tmp_path: Path) -> None:
    recipe = evaluation(tmp_path, ["accuracy", "perplexity"], classifies=True)
    network = recipe.plan().network
    geometry = attrs.evolve(network.geometry, labels=1, problem=REGRESSION)
    (fault,) = plan_of(recipe.completed).faults(geometry, network.weights_info)
    message = "a classifier that gives a number has no accuracy and no perplexity: leave it out"
    assert fault.message == message


def test_weights_that_are_absent_are_all_that_is_said(tmp_path: Path) -> None:
    recipe = evaluation(tmp_path, ["accuracy"], classifies=False)
    absent = recipe.set("model.weights", str(tmp_path / "no/such"))
    assert [fault.code for fault in absent.faults()] == ["G2-301"]
