from __future__ import annotations

from pathlib import Path

import click
import pytest

from gpt2dsl.cli.main import cli
from gpt2dsl.cli.run import RESUME, _again, _interruptible
from gpt2dsl.errors import Interrupted
from gpt2dsl.weights import store
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
    assert _again("x.toml", settings, None, anew, several=False) == expected


RECIPE = """
from gpt2dsl import Callback, Data, Model, Task, Train

class Mine(Callback):
    def on_step(self, step, metrics):
        import helper

        helper.told(step)

    def on_start(self, start):
        print("began", start.name, start.step, "of", start.steps)

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
    assert failed.stdout == "began mine 0 of 4\n"
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


def test_callbacks_of_a_recipe_are_called_in_specs_that_extend_it(beside: Path) -> None:
    (beside / "helper.py").write_text("def told(step):\n    pass\n")
    (beside / "near.toml").write_text('extends = "mine:recipe"\n')
    (beside / "far.toml").write_text('extends = "near.toml"\n[train]\nsteps = 3\n')
    done = gpt2dsl("run", "far.toml", "--set", "train.seed=1")
    assert done.stdout.startswith("began far 0 of 3\n")

    (beside / "chain.toml").write_text(
        '[[stage]]\nextends = "far.toml"\n'
        '[[stage]]\n[stage.task]\nkind = "finetune"\ndata = "text.txt"\n'
        "[stage.train]\nbatch_size = 2\nseq_length = 8\nsteps = 2\n"
    )
    told = [line for line in gpt2dsl("run", "chain.toml").stdout.splitlines() if "began" in line]
    assert [line.partition(" 0 of ")[2] for line in told] == ["3"]


def test_a_run_of_another_name_goes_on_under_that_name(beside: Path) -> None:
    (beside / "helper.py").write_text("def told(step):\n    pass\n")
    done = gpt2dsl("run", "mine:recipe", "--name", "high rate", "--set", "optim.lr=0.01")
    assert done.stdout.startswith("began high rate 0 of 4\n")
    (run,) = (beside / "runs").iterdir()
    assert run.name.startswith("high rate-")
    words = _again("mine:recipe", [], "high rate", [], several=False)
    assert words == "gpt2dsl run mine:recipe --name 'high rate'"
    refused = gpt2dsl("run", "mine:recipe", "--name", "a/b", code=2)
    assert "--name: expected what a directory can be called" in refused.stderr


def test_a_quiet_run_shows_its_result_alone_on_its_ranks_too(beside: Path) -> None:
    (beside / "mine.py").write_text(RECIPE.format(callbacks=""))
    done = gpt2dsl("run", "mine:recipe", "--quiet", "--set", "parallel.dp=2")
    assert done.stderr == ""
    assert "checkpoint  runs/mine-" in done.stdout
    refused = gpt2dsl("run", "mine:recipe", "-q", "--set", "train.steps=x", code=2)
    assert "train.steps" in refused.stderr


def test_every_command_that_shows_progress_can_be_quiet() -> None:
    names = "run generate classify convert reshard export fetch serve data.prepare tokenizer.train"
    for name in [*names.split(), "lite.run"]:
        command: click.Command = cli
        for word in name.split("."):
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), word)
            assert found
            command = found
        assert any("--quiet" in param.opts for param in command.params), name


def test_ctrl_c_that_saves_nothing_tells_how_to_start_again_or_go_on(tmp_path: Path) -> None:
    def told(*folders: Path) -> str:
        with pytest.raises(Interrupted) as stop, _interruptible("gpt2dsl run x.toml", folders):
            raise KeyboardInterrupt
        return str(stop.value)

    new, damaged, stopped = (tmp_path / name for name in ("new", "damaged", "stopped"))
    assert told(new) == "interrupted\nstart again with: gpt2dsl run x.toml"
    (damaged / "checkpoints" / "step-2").mkdir(parents=True)
    assert told(damaged) == told(new)
    with store.writing(stopped / "checkpoints" / "step-2"):
        pass
    assert told(stopped) == "interrupted\ngo on with: gpt2dsl run x.toml"
    assert told(stopped, new) == told(stopped)
    with pytest.raises(KeyboardInterrupt), _interruptible("", [stopped]):
        raise KeyboardInterrupt
