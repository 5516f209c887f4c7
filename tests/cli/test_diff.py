"""What ``diff`` says of a run that would go on with another recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Recipe
from gpt2dsl.weights import store, training_state
from tests.cli.test_cli import run
from tests.library.run_directories import SPEC, make

TOML = SPEC + "\n[train]\nseq_length = 64\nsteps = 30\n"
CHANGED = TOML + "\n[optim]\nlr = 0.5\n"
SAVED = "runs/my run-1/checkpoints/step-20"


@pytest.fixture
def stopped(elsewhere: Path) -> Path:
    """A run of ``TOML`` that was stopped at step 20."""
    (elsewhere / "my.toml").write_text(TOML)
    identity = Recipe.load("my.toml").plan().identity.to_json()
    losses = [4.0 - step / 10 for step in range(20)]
    path = make(
        Path("runs/my run-1"), toml=TOML, losses=losses, planned=30, done=False, identity=identity
    )
    with store.writing(Path(SAVED), {"step": 20}, {}) as unfinished:
        training_state.write_state(unfinished, {"step": 20, "identity": identity})
    return path


def verdict(path: Path, spec: str, capsys: Any) -> tuple[str, dict[str, Any]]:
    """Return what the differences would come to, in words and as JSON."""
    Path("my.toml").write_text(spec)
    assert run("diff", str(path), "my.toml") == 0
    start = "if the run went on with B, "
    (line,) = (at for at in capsys.readouterr().out.splitlines() if at.startswith(start))
    assert run("diff", str(path), "my.toml", "--json") == 0
    return line.removeprefix(start), json.loads(capsys.readouterr().out)["resume"]


def test_diff_has_the_command_that_goes_on_with_a_changed_recipe(
    stopped: Path, capsys: Any
) -> None:
    words, document = verdict(stopped, CHANGED, capsys)
    command = f"gpt2dsl run my.toml --set 'train.resume={SAVED}'"
    assert words == f"it can go on: {command}"
    assert (document["refused"], document["command"]) == (False, command)
    assert run("check", "my.toml", "--set", f"train.resume={SAVED}") == 0


def test_diff_has_the_plain_command_where_the_run_is_that_of_the_recipe(
    stopped: Path, capsys: Any
) -> None:
    own = stopped.rename(Recipe.load("my.toml").named("my").plan().directory)
    assert verdict(own, TOML, capsys)[0] == "it can go on: gpt2dsl run my.toml"
    never = TOML + 'resume = "never"\n'
    wanted = "gpt2dsl run my.toml --set train.resume="
    assert verdict(own, never, capsys)[1]["command"].startswith(wanted)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("seq_length = 64", "seq_length = 32", "it would be refused"),
        ("steps = 30", "steps = 10", "it would be refused: it is at step 20, past the 10 steps"),
    ],
)
def test_diff_has_no_command_for_what_would_be_refused(
    stopped: Path, capsys: Any, before: str, after: str, words: str
) -> None:
    said, document = verdict(stopped, TOML.replace(before, after), capsys)
    assert said.startswith(words)
    assert (document["refused"], document["command"]) == (True, "")


def test_diff_says_that_a_run_has_no_checkpoint(stopped: Path, capsys: Any) -> None:
    (Path(SAVED) / store.MANIFEST).unlink()
    assert verdict(stopped, CHANGED, capsys)[0] == "it can go on, but it has no whole checkpoint"
