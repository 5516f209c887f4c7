"""Layouts of ranks, each in processes of its own, against one process."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from gpt2dsl import Generation, Model, Parallel, Recipe, Runtime, Task, Train
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.rundir import RunDirectory
from tests.engine.conftest import text
from tests.engine.layouts import ALONE, Ended, Outcome, Runs, name_of

LAYOUTS = [(2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 1), (1, 2, 2), (2, 1, 2)]
"""dp, mp, pp."""

FEW = [
    ("all", Parallel(dp=2, optimizer_shard=True, micro_batches=2)),
    ("adapters", Parallel(mp=2)),
    ("all", Parallel(pp=2, micro_batches=2)),
]
"""Each axis once: what ``make test`` runs."""

MANY = [
    (kind, Parallel(dp=dp, mp=mp, pp=pp, micro_batches=2, optimizer_shard=shard))
    for dp, mp, pp in LAYOUTS
    for shard in ((False, True) if dp > 1 else (False,))  # one copy has nothing to share out
    for kind in ("all", "adapters")
]
SEQUENCE = [
    (kind, Parallel(mp=2, pp=pp, micro_batches=2, sequence_parallel=True))
    for pp in (1, 2)
    for kind in ("all", "adapters")
]
PROMPTS = ("the old cat", "a bird sang", "the")


def case(kind: str, parallel: Parallel, *marks: Any) -> Any:
    return pytest.param(kind, parallel, id=f"{kind}-{name_of(parallel)}", marks=marks)


def soaked(cases: list[tuple[str, Parallel]]) -> list[Any]:
    return [case(*one, pytest.mark.soak) for one in cases if one not in FEW]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("layouts"))


def check(found: Outcome, expected: Outcome) -> None:
    assert len(found.losses) == 20
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    for key, rel in {"gradient_norm": 1e-4, "eval_loss": 1e-5}.items():
        assert found.metrics(key) == pytest.approx(expected.metrics(key), rel=rel)
    tensors, others = found.tensors(), expected.tensors()
    assert tensors.keys() == others.keys()
    for name, array in tensors.items():
        np.testing.assert_allclose(array, others[name], atol=1e-5, rtol=0, err_msg=name)


@pytest.mark.parametrize(
    ("kind", "parallel"), [*(case(*one) for one in FEW), *soaked(MANY + SEQUENCE)]
)
def test_a_training_follows_that_of_one_process(runs: Runs, kind: str, parallel: Parallel) -> None:
    check(runs.under(kind, parallel), runs.under(kind, ALONE))


@pytest.mark.parametrize(
    "parallel",
    [
        pytest.param(Parallel(mp=2, sequence_parallel=True), id="sequence"),
        pytest.param(Parallel(mp=2), id="mp2", marks=pytest.mark.soak),
        pytest.param(Parallel(pp=2), id="pp2", marks=pytest.mark.soak),
    ],
)
def test_a_batch_whose_logits_come_in_portions_follows_one_process(
    runs: Runs, parallel: Parallel
) -> None:
    def run(parallel: Parallel) -> Outcome:
        recipe = runs.recipe("all", parallel).set("train.batch_size", 32).set("train.steps", 4)
        there = str(runs.folder / f"portions-{name_of(parallel)}")
        return runs.run(recipe.set("runtime.output", there))

    found, expected = run(parallel), run(ALONE)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    assert found.metrics("eval_loss") == pytest.approx(expected.metrics("eval_loss"), rel=1e-5)


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "parallel"), [case(*one) for one in MANY])
def test_a_resume_under_the_same_layout_ends_bit_for_bit(
    runs: Runs, kind: str, parallel: Parallel
) -> None:
    whole = runs.under(kind, parallel)
    expected = Ended.of(whole)
    assert whole.result.checkpoint
    shutil.rmtree(whole.result.checkpoint)
    assert Ended.of(runs.run(runs.recipe(kind, parallel))) == expected


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["all", "adapters"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Parallel(dp=2, optimizer_shard=True), Parallel(mp=2)),
        (Parallel(mp=2), ALONE),
        (ALONE, Parallel(dp=2, optimizer_shard=True)),
        (Parallel(dp=2, optimizer_shard=True), Parallel(pp=2, micro_batches=2)),
    ],
    ids=["dp2-mp2", "mp2-alone", "alone-dp2", "dp2-pp2"],
)
def test_a_resume_under_another_layout_follows_one_process(
    runs: Runs, kind: str, before: Parallel, after: Parallel
) -> None:
    there = str(runs.folder / f"{kind}-{name_of(before)}-then-{name_of(after)}")
    first = runs.run(runs.recipe(kind, before).set("runtime.output", there))
    assert first.result.checkpoint
    shutil.rmtree(first.result.checkpoint)
    second = runs.run(runs.recipe(kind, after).set("runtime.output", there))
    assert second.result.directory == first.result.directory
    assert second.result.directory
    noted = RunDirectory(second.result.directory).attempts()
    assert [one.layout for one in noted] == [str(before.grid), str(after.grid)]
    check(second, runs.under(kind, ALONE))


@pytest.mark.parametrize(
    "parallel",
    [
        pytest.param(Parallel(dp=2, pp=2, micro_batches=2), id="dp2-pp2"),
        pytest.param(Parallel(pp=2, micro_batches=2), id="pp2", marks=pytest.mark.soak),
        pytest.param(Parallel(dp=2, micro_batches=2), id="dp2", marks=pytest.mark.soak),
        pytest.param(Parallel(mp=2, micro_batches=2), id="mp2", marks=pytest.mark.soak),
    ],
)
def test_an_evaluation_in_parts_is_that_of_one_process(runs: Runs, parallel: Parallel) -> None:
    few = runs.folder / "few.txt"
    few.write_text(evaluated_text(), encoding="utf-8")
    measure = Task.evaluate(data=str(few))
    found, expected = (runs.run(asked(runs, measure, one)).result for one in (parallel, ALONE))
    assert found.tokens == expected.tokens
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)


def evaluated_text() -> str:
    """A text of a batch of 4 rows and of another with one row, which one replica has alone."""
    tokenizer = Tokenizer.train([text(400)], 320)  # as write_weights
    return tokenizer.decode(tokenizer.encode(text(400))[: 4 * 32 + 8])


def asked(runs: Runs, task: Task, parallel: Parallel) -> Recipe:
    return (
        Model(weights=str(runs.weights))
        | Train(batch_size=4, seq_length=32)
        | Generation(max_new_tokens=8)
        | Runtime(output=str(runs.folder / "asked"))
        | parallel
        | task
    )


@pytest.mark.parametrize(
    "parallel",
    [
        pytest.param(Parallel(mp=2), id="mp2"),
        pytest.param(Parallel(dp=2), id="dp2", marks=pytest.mark.soak),
        pytest.param(Parallel(dp=2, mp=2), id="dp2-mp2", marks=pytest.mark.soak),
    ],
)
def test_an_evaluation_and_greedy_texts_are_those_of_one_process(
    runs: Runs, parallel: Parallel
) -> None:
    measure = Task.evaluate(data=str(runs.folder / "valid.txt"))
    write = Task.generate(prompts=PROMPTS)
    runs.recipe("all", ALONE)  # writes the text
    found, expected = (runs.run(asked(runs, measure, one)).result for one in (parallel, ALONE))
    assert found.tokens == expected.tokens
    assert found.perplexity == pytest.approx(expected.perplexity, rel=1e-5)
    found, expected = (runs.run(asked(runs, write, one)).result for one in (parallel, ALONE))
    assert len(set(expected.texts)) == len(PROMPTS)
    assert found.texts == expected.texts
