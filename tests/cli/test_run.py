from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl.cli.run import RESUME, _again
from tests.commands import gpt2dsl


@pytest.mark.parametrize(
    ("settings", "anew", "expected"),
    [
        ([], [], "gpt2dsl run x.toml"),
        (["train.steps=3"], [], "gpt2dsl run x.toml --set train.steps=3"),
        ([], [RESUME], "gpt2dsl run x.toml --set train.resume=auto"),
        (["train.resume=never"], [RESUME], "gpt2dsl run x.toml --set train.resume=auto"),
        (
            ["stage.2.optim.lr=1"],
            ["stage.1.train.resume"],
            "gpt2dsl run x.toml --set stage.2.optim.lr=1 --set stage.1.train.resume=auto",
        ),
    ],
)
def test_the_command_that_goes_on_does_not_start_anew(
    settings: list[str], anew: list[str], expected: str
) -> None:
    assert _again("x.toml", settings, anew, several=False) == expected


RECIPE = """
from gpt2dsl import Callback, Data, Model, Task, Train

class Mine(Callback):
    def on_step(self, step, metrics):
        import helper

        helper.told(step)

{callbacks}
recipe = (
    Model(size="nano", layers=1, heads=1, hidden=16, positions=16)
    | Data(tokenizer="train", vocab=300)
    | Train(batch_size=2, seq_length=8, steps=4)
    | Task.pretrain(data="text.txt")
)
"""


@pytest.fixture
def beside(elsewhere: Path) -> Path:
    (elsewhere / "text.txt").write_text("the old cat sat on the mat\n" * 20)
    (elsewhere / "mine.py").write_text(RECIPE.format(callbacks="callbacks = [Mine()]"))
    return elsewhere


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_a_users_callback_raises_is_named_as_the_users(beside: Path, ranks: int) -> None:
    (beside / "helper.py").write_text("def told(step):\n    if step == 2:\n        1 / 0\n")
    failed = gpt2dsl("run", "mine:recipe", "--set", f"parallel.dp={ranks}", code=1)
    line = (
        f"{beside / 'mine.py'}:8: your callback Mine.on_step at step 2: "
        "ZeroDivisionError: division by zero [G2-402]"
    )
    assert line in failed.stderr.splitlines()
    assert "fault of gpt2dsl" not in failed.stderr


@pytest.mark.parametrize(
    ("callbacks", "found"),
    [("callbacks = Mine()", "<mine.Mine"), ("callbacks = [Mine]", "<class 'mine.Mine'>")],
)
def test_callbacks_that_are_none_are_refused_before_anything_runs(
    beside: Path, callbacks: str, found: str
) -> None:
    (beside / "mine.py").write_text(RECIPE.format(callbacks=callbacks))
    refused = gpt2dsl("run", "mine:recipe", code=2)
    assert "mine:callbacks: expected a list of objects of subclasses" in refused.stderr
    assert found in refused.stderr
    assert not (beside / "runs").exists()
