"""A callback that would never be called is refused where it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Callback, Model, Recipe, SpecError, Task


def test_faults_of_hooks_have_their_line_and_their_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hooked.py").write_text(
        "from gpt2dsl import Callback, Model, Task, Train\n"
        "class Mail(Callback):\n"
        "    def on_step_ends(self, step, metrics): ...\n"
        "    def on_step(self, step): ...\n"
        "    async def on_end(self, result): ...\n"
        "    def on_start(self, start): yield\n"
        "    def on_mail(self): ...\n"
        "    on_checkpoint = None\n"
        "recipe = Model(size='nano') | Task.pretrain(data='sample:train')\n"
    )
    monkeypatch.chdir(tmp_path)
    hooks = "the hooks are on_start, on_step, on_evaluation, on_checkpoint, on_end"
    called = "expected a method"
    with pytest.raises(SpecError) as caught:
        Recipe.load("hooked:recipe")
    assert [(fault.origin, fault.key, fault.message) for fault in caught.value.faults] == [
        (
            "hooked.py:2",
            "Mail.on_checkpoint",
            f"{called} on_checkpoint(self, step, folder), found None",
        ),
        (
            "hooked.py:3",
            "Mail.on_step_ends",
            f"no hook has this name; did you mean on_step?; {hooks}",
        ),
        (
            "hooked.py:4",
            "Mail.on_step",
            f"{called} on_step(self, step, metrics), found on_step(self, step)",
        ),
        (
            "hooked.py:5",
            "Mail.on_end",
            f"{called} on_end(self, result), found one that is async, which never runs",
        ),
        (
            "hooked.py:6",
            "Mail.on_start",
            f"{called} on_start(self, start), found one that is a generator, which never runs",
        ),
        ("hooked.py:7", "Mail.on_mail", f"no hook has this name; rename it; {hooks}"),
    ]


def test_hooks_that_can_be_called_are_taken() -> None:
    class Mixed(Callback):
        @staticmethod
        def on_step(step: int, metrics: Any, **more: Any) -> None: ...

        @classmethod
        def on_end(cls, *all_of_it: Any) -> None: ...

        on_evaluation = print  # type: ignore[assignment]

        def _on_mail(self) -> None: ...

    assert repr(Mixed()).endswith("Mixed: on_step, on_evaluation, on_end>")


@pytest.mark.parametrize("wrong", [[Callback], [print], Callback()])
def test_a_plan_takes_objects_of_callbacks_only(wrong: Any) -> None:
    plan = (Model(size="nano", weights="random") | Task.generate(prompts=["a"])).plan()
    with pytest.raises(SpecError, match="callbacks: expected a list of objects of subclasses"):
        plan.run(callbacks=wrong)
