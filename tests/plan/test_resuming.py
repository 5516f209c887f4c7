"""A checkpoint that a recipe names, and can't go on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Model, Recipe, RunError, Runtime, SpecError, Task, Train
from gpt2dsl.weights import store, training_state


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe that goes on from step 5 of a run of its own values."""
    text = tmp_path / "text.txt"
    text.write_text("a cat sat on a mat. " * 400)
    recipe = Recipe(
        Model(size="nano"),
        Train(batch_size=4, seq_length=32, steps=12),
        Task.pretrain(data=str(text)),
        Runtime(output=str(tmp_path / "runs")),
    )
    folder = tmp_path / "begin"
    state = {"step": 5, "identity": recipe.plan().identified().to_json()}
    with store.writing(folder, {"step": 5}, {}) as unfinished:
        training_state.write_state(unfinished, state)
    return recipe.set("train.resume", str(folder))


def said(recipe: Recipe) -> str:
    """Return the message with which ``check``, ``plan`` and ``run`` refuse the checkpoint."""
    (checked,), (planned,) = recipe.faults(), recipe.plan().refusals()
    assert checked == planned
    assert (checked.code, checked.key.partition(" ")[0]) == ("G2-316", "train.resume")
    with pytest.raises(SpecError) as caught:
        recipe.plan().run()
    assert caught.value.faults == (checked,)
    assert not Path(recipe.parts["runtime"].output).exists()  # type: ignore[attr-defined]
    return checked.message


def test_a_checkpoint_of_the_same_training_is_accepted(recipe: Recipe) -> None:
    for key, value in {"optim.lr": 1e-5, "train.steps": 20, "train.save_every": 3}.items():
        assert recipe.set(key, value).faults() == recipe.set(key, value).plan().refusals() == ()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.seq_length", 16, "(32 -> 16): rows would be left out or read twice"),
        ("train.batch_size", 2, "(4 -> 2): rows would be left out or read twice"),
        ("model.layers", 3, "-> 3): the checkpoint's tensors belong to the other network"),
        ("optim.name", "sgd", '("adamw" -> "sgd"): the moments in the checkpoint belong to'),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_with_both_values(
    recipe: Recipe, key: str, value: Any, words: str
) -> None:
    message = said(recipe.set(key, value))
    assert message.startswith(f"changed since this checkpoint was written: {key} (")
    assert words in message
    assert message.endswith("; train.resume = never starts anew")


def test_a_checkpoint_of_other_data_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("another text. " * 900)
    assert "the contents of task.data (" in said(recipe)


def test_a_checkpoint_past_the_last_step_is_refused(recipe: Recipe) -> None:
    assert said(recipe.set("train.steps", 4)).startswith("it is at step 5, past the 4 steps")


def test_what_holds_no_state_of_a_training_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    state = tmp_path / "begin" / "state.json"
    state.write_text(json.dumps({"step": 5, "identity": 1}))
    assert [fault.code for fault in recipe.faults()] == ["G2-304"]
    state.unlink()
    assert ["holds no state to resume from" in fault.message for fault in recipe.faults()] == [True]


def test_nothing_is_tokenised_before_a_checkpoint_is_refused(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("GPT2DSL_CACHE", str(cache))
    began = recipe.set("train.resume", "auto")
    state = {"step": 5, "identity": began.plan().identified().to_json()}
    folder = Path(began.plan().directory) / "checkpoints" / "step-5"
    with store.writing(folder, {"step": 5}, {}) as unfinished:
        training_state.write_state(unfinished, state)
    (tmp_path / "text.txt").write_text("another text. " * 900)
    assert began.plan().refusals() == ()
    before = set(cache.rglob("*"))
    with pytest.raises(SpecError, match=r"the contents of task\.data"):
        recipe.plan().run()
    with pytest.raises(RunError, match=r"step-5: .*the contents of task\.data"):
        began.plan().run()
    assert set(cache.rglob("*")) == before
    began.plan(prepare=True)
    assert set(cache.rglob("*")) > before
