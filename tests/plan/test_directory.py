"""Runs of one recipe under several names."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl import Model, Recipe, Runtime, Task, Train
from gpt2dsl.plan.plan import Plan
from gpt2dsl.weights import store, training_state


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    text = tmp_path / "text.txt"
    text.write_text("a cat sat on a mat. " * 400)
    return Recipe(
        Model(size="nano"),
        Train(batch_size=4, seq_length=32, steps=12),
        Task.pretrain(data=str(text)),
        Runtime(output=str(tmp_path / "runs")),
    )


def leave(plan: Plan, step: int) -> Path:
    """Write the directory of a run that stopped at a checkpoint."""
    folder = Path(plan.directory)
    state = {"step": step, "identity": plan.identified().to_json()}
    with store.writing(folder / "checkpoints" / f"step-{step}", {"step": step}, {}) as unfinished:
        training_state.write_state(unfinished, state)
    (folder / "plan.json").write_text(plan.to_json_text())
    return folder


def of_runs(plan: Plan) -> list[str]:
    return [note for note in plan.notes if "holds a run" in note]


@pytest.mark.parametrize("prepare", [False, True])
def test_a_run_of_the_same_training_under_another_name_is_named(
    recipe: Recipe, *, prepare: bool
) -> None:
    folder = leave(recipe.plan(), 5)
    name = "gpt2-nano-pretrain"
    (note,) = of_runs(recipe.named("rec").plan(prepare=prepare))
    assert note == (
        f"{folder} holds a run of this recipe, at step 5 of 12; "
        f"run --name {name} goes on with it, .named('{name}') in Python"
    )
    assert f"runs/{name}-" in str(recipe.named("rec").plan())
    again = recipe.named("rec").named(name).plan()
    assert again.directory == str(folder)
    assert not of_runs(again)


def test_other_trainings_data_and_starts_are_not_named(recipe: Recipe, tmp_path: Path) -> None:
    folder = leave(recipe.plan(), 5)
    other = recipe.named("rec")
    assert not of_runs(other.set("optim.lr", 1e-5).plan())
    assert not of_runs(other.set("train.resume", "never").plan())
    Path(other.plan().directory).mkdir()
    assert not of_runs(other.plan())
    Path(other.plan().directory).rmdir()
    assert of_runs(other.plan())
    assert not of_runs((other >> other).plan().stages[0].plan)
    (tmp_path / "text.txt").write_text("another text. " * 900)
    assert not of_runs(other.plan())
    (folder / "plan.json").unlink()
    assert not of_runs(other.plan())
