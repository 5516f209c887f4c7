"""Objects at a prompt are short; in a notebook they show what print shows."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gpt2dsl
from gpt2dsl import Callback, Fault, Model, Task, Train
from gpt2dsl.chain.plan import ChainPlan
from gpt2dsl.chain.result import ChainResult
from gpt2dsl.engine.job import Result
from gpt2dsl.engine.scores import ClassificationMetrics
from gpt2dsl.engine.text_model import TextModel
from gpt2dsl.engine.text_pipeline import TextGeneration
from tests import shell_pages

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
    "FileError": gpt2dsl.FileError("G2-403", "<b>"),
    "Generation": gpt2dsl.Generation(top_k=3),
    "Gpt2DslError": gpt2dsl.Gpt2DslError("<b>"),
    "InUseError": gpt2dsl.InUseError("G2-402", "<b>"),
    "InputError": gpt2dsl.InputError("G2-301", "<b>", "absent"),
    "Interrupted": gpt2dsl.Interrupted("G2-404", "<b>"),
    "LoRA": gpt2dsl.LoRA(r=2),
    "Model": Model(size="nano"),
    "Optim": gpt2dsl.Optim(lr=1e-3),
    "Parallel": gpt2dsl.Parallel(dp=2),
    "Part": Train(seq_length=8),
    "Plan": RECIPE.plan(),
    "Precision": gpt2dsl.Precision(compute="float16"),
    "Recipe": RECIPE,
    "RunError": gpt2dsl.RunError("G2-402", "<b>"),
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
    vars(two)["__notes__"] = ["in the second trial"]  # as add_note of Python 3.11 leaves them
    assert one._render_traceback_() == [f"SpecError: {FAULT}"]
    assert two._render_traceback_() == ["SpecError:", str(FAULT), str(FAULT), "in the second trial"]
    assert gpt2dsl.Gpt2DslError()._render_traceback_() == ["Gpt2DslError:"]
    with pytest.raises(gpt2dsl.SpecError) as caught:
        Train(bach=3)  # type: ignore[call-arg]
    assert caught.value.__traceback__


class Compiler:
    """Names code as IPython's compiler does."""

    def format_code_name(self, name: str) -> tuple[str, str] | None:
        found = re.fullmatch(r".*/ipykernel_\d+/(\d+)\.py", name)
        return ("Cell", f"In[{found[1]}]") if found else None


def run_cell(number: int, code: str) -> dict[str, Any]:
    """Carry out code as a notebook does."""
    scope = dict(vars(gpt2dsl))
    exec(compile(code, str(Path.cwd() / f"ipykernel_456/{number}.py"), "exec"), scope)  # noqa: S102
    return scope


@pytest.fixture
def _in_ipython(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace(compile=Compiler())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


@pytest.mark.usefixtures("_in_ipython")
def test_a_place_in_a_notebook_is_its_cell_and_line() -> None:
    code = "\n\ntrain = Train(\n    steps=3)\n"
    train = run_cell(12, code)["train"]
    assert train.why("steps") == "cell [12], line 3"
    with pytest.raises(gpt2dsl.SpecError) as caught:
        run_cell(5, "\n" * 9 + "Train(steps='3',\n bach=4)")
    assert {fault.origin for fault in caught.value.faults} == {"cell [5], line 10"}
    assert Train(steps=2).why("steps").startswith("tests/test_notebook.py:")


@pytest.mark.usefixtures("_in_ipython")
def test_the_page_shows_what_a_notebook_shows_of_an_error() -> None:
    shown = shell_pages.blocks(Path(__file__).parents[1] / "docs" / "notebooks.md")
    (code,) = (block.content for block in shown if block.mark("with faults") is not None)
    (said,) = (block.content for block in shown if block.language == "text")
    with pytest.raises(gpt2dsl.SpecError) as caught:
        run_cell(3, code)
    assert "\n".join(caught.value._render_traceback_()) == said.rstrip()


def test_faults_of_cells_are_in_the_order_of_their_lines() -> None:
    origins = ["cell [5], line 10", "cell [5], line 9", "a.toml:10", "a.toml:9", "--set"]
    error = gpt2dsl.SpecError([Fault("G2-101", origin, "x", "y") for origin in origins])
    assert [fault.origin for fault in error.faults] == [
        "--set", "a.toml:9", "a.toml:10", "cell [5], line 9", "cell [5], line 10",
    ]  # fmt: skip


@pytest.mark.usefixtures("_in_ipython")
def test_a_chain_of_a_notebook_keeps_its_author_when_its_cell_runs_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = "c = (Model(size='nano') | Task.pretrain(data='a')) >> Task.generate(prompts=['b'])"
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert [run_cell(number, code)["c"].author for number in (1, 2)] == ["notebook", "notebook"]
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/x/y.ipynb")
    assert run_cell(3, code)["c"].author == "/home/x/y.ipynb"


def test_what_public_functions_give_is_short_and_rich_too() -> None:
    for kind in (Result, ChainResult, ChainPlan, TextModel, TextGeneration, ClassificationMetrics):
        assert "__repr__" in vars(kind)
        assert hasattr(kind, "_repr_html_")
    assert repr(OBJECTS["Callback"]) == "<tests.test_notebook.Mine: on_end>"
