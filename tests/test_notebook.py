"""Objects at a prompt are short; in a notebook they show what print shows."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest

import gpt2dsl
from gpt2dsl import Callback, Fault, Model, Task, Train
from gpt2dsl.chain.plan import ChainPlan
from gpt2dsl.chain.result import ChainResult
from gpt2dsl.engine.job import Result
from gpt2dsl.engine.pipeline import TextGeneration
from gpt2dsl.engine.scores import Scores
from gpt2dsl.engine.text_model import TextModel

RECIPE = Model(size="nano") | Train(seq_length=32, steps=1) | Task.pretrain(data="sample:train")
CHAIN = RECIPE >> Task.generate(prompts=["<b>"])


@pytest.mark.parametrize("plan", [RECIPE.plan(), CHAIN.plan()])
def test_a_plan_is_one_line_and_shows_its_table(plan: Any) -> None:
    assert repr(plan).endswith("; print() shows it>")
    assert len(repr(plan)) < 100
    assert html.escape(str(plan)) in plan._repr_html_()


@pytest.mark.parametrize("plan", [RECIPE.plan(), CHAIN.plan()])
def test_a_plan_has_its_text_in_a_notebook_too(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = str(plan)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(plan) == text
    assert "seq" in text or "rows" in text


@pytest.mark.parametrize("recipe", [RECIPE, CHAIN])
def test_a_recipe_is_the_python_that_makes_it_and_shows_its_toml(recipe: Any) -> None:
    assert eval(repr(recipe), vars(gpt2dsl)) == recipe  # noqa: S307
    assert html.escape(recipe.to_toml()) in recipe._repr_html_()
    assert "<b>" not in recipe._repr_html_().replace("&lt;b&gt;", "")


class Mine(Callback):
    """Waits for the end."""

    def on_end(self, result: Result) -> None:
        """Do nothing."""


FAULT = Fault("G2-101", "a.toml:1", "train.x", "unknown <key>")
OBJECTS: dict[str, Any] = {
    "Callback": Mine(),
    "Chain": CHAIN,
    "Classifier": gpt2dsl.Classifier(labels=["<a>", "b"]),
    "Data": gpt2dsl.Data(format="jsonl"),
    "Fault": FAULT,
    "Generation": gpt2dsl.Generation(top_k=3),
    "Gpt2DslError": gpt2dsl.Gpt2DslError("<b>"),
    "InUseError": gpt2dsl.InUseError("<b>"),
    "InputError": gpt2dsl.InputError("G2-301", "<b>", "absent"),
    "Interrupted": gpt2dsl.Interrupted("<b>"),
    "LoRA": gpt2dsl.LoRA(r=2),
    "Model": Model(size="nano"),
    "Optim": gpt2dsl.Optim(lr=1e-3),
    "Parallel": gpt2dsl.Parallel(dp=2),
    "Part": Train(seq_length=8),
    "Plan": RECIPE.plan(),
    "Precision": gpt2dsl.Precision(compute="float16"),
    "Recipe": RECIPE,
    "RunError": gpt2dsl.RunError("<b>"),
    "Runtime": gpt2dsl.Runtime(output="<b>"),
    "Schedule": gpt2dsl.Schedule(kind="cosine"),
    "SpecError": gpt2dsl.SpecError([FAULT, FAULT]),
    "Start": gpt2dsl.Start(name="a", directory=Path("runs/a"), step=0, steps=5, recipe="x" * 999),
    "Task": Task.generate(prompts=["<b>"]),
    "Train": Train(steps=3),
}


@pytest.mark.parametrize("name", [name for name in gpt2dsl.__all__ if name[0].isupper()])
def test_every_public_object_is_short_at_a_prompt_and_rich_in_a_notebook(name: str) -> None:
    public = OBJECTS[name]
    assert isinstance(public, getattr(gpt2dsl, name))
    assert len(repr(public)) < 300
    assert " object at 0x" not in repr(public)
    markup = public._repr_html_()
    assert markup.startswith("<pre")
    assert "<b>" not in markup
    assert "<key>" not in markup


def test_ipython_shows_an_error_without_frames() -> None:
    """As ``IPython.core.interactiveshell`` asks for it."""
    one, two = gpt2dsl.SpecError([FAULT]), gpt2dsl.SpecError([FAULT, FAULT])
    two.__notes__ = ["in the second trial"]  # as add_note of Python 3.11 leaves them
    assert one._render_traceback_() == [f"SpecError: {FAULT}"]
    assert two._render_traceback_() == ["SpecError:", str(FAULT), str(FAULT), "in the second trial"]
    assert gpt2dsl.RunError()._render_traceback_() == ["RunError:"]
    with pytest.raises(gpt2dsl.SpecError) as caught:
        Train(bach=3)  # type: ignore[call-arg]
    assert caught.value.__traceback__


def test_what_public_functions_give_is_short_and_rich_too() -> None:
    for kind in (Result, ChainResult, ChainPlan, TextModel, TextGeneration, Scores):
        assert "__repr__" in vars(kind)
        assert hasattr(kind, "_repr_html_")
    assert repr(OBJECTS["Callback"]) == "<tests.test_notebook.Mine: on_end>"
