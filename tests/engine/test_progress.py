"""Progress on a terminal, in a notebook, where lines are printed, and where it is to be quiet."""

from __future__ import annotations

import io
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2dsl import terminal
from gpt2dsl.engine.progress import Bar, ByteBar, say, saying


@pytest.mark.parametrize(("pause", "left"), [(1.0, "  0:00:08 left"), (60.0, "  0:08:00 left")])
def test_piped_lines_tell_the_time_that_is_left_without_the_first_step(
    pause: float, left: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    with Bar("training", 10) as bar:
        now[0] += 1000.0  # the first step waits for a compilation
        bar.step("loss 3")
        now[0] += pause
        bar.step("loss 2")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "training 1/10  loss 3"
    assert second == f"training 2/10  loss 2{left}"


def test_nothing_is_said_of_a_moment(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("training", 3) as bar:
        for _ in range(3):
            bar.step("loss 2")
    assert "left" not in capsys.readouterr().err


def test_lines_of_an_evaluation_are_as_far_apart_as_it_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    with Bar("evaluating", 8, pause=5.0) as bar:
        for _ in range(8):
            now[0] += 2.0
            bar.step("loss 3")
    assert capsys.readouterr().err.splitlines() == [
        "evaluating 3/8  loss 3  0:00:10 left",
        "evaluating 6/8  loss 3",
    ]


def show_all() -> None:
    """Use all kinds of progress."""
    with saying("loading <weights>"):
        pass
    with Bar("training", 20) as bar:
        for _ in range(20):
            bar.step("loss 2")
    with ByteBar("writing", 10) as bytes_bar:
        bytes_bar.move(10)
    say("done")


@pytest.mark.parametrize(("value", "lines"), [(None, 12), ("0", 12), ("", 12), ("1", 0)])
def test_the_environment_may_ask_for_quiet(
    value: str | None, lines: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if value is not None:
        monkeypatch.setenv(terminal.QUIET, value)
    show_all()
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_nothing_is_shown_while_it_is_to_be_quiet_and_errors_are_still_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with terminal.quietly():
        with terminal.quietly(wanted=False):
            show_all()
        terminal.say("what went wrong")
    assert capsys.readouterr().err == "what went wrong\n"
    say("heard again")
    assert capsys.readouterr().err == "heard again\n"


def test_a_pipe_is_no_terminal_where_colours_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ipykernel asks for them, in the processes of ranks too."""
    for name, value in (("FORCE_COLOR", "1"), ("CLICOLOR_FORCE", "1"), ("TERM", "xterm-color")):
        monkeypatch.setenv(name, value)
    show_all()
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 12
    assert "\x1b" not in said


class Terminal(io.StringIO):
    """A stderr that moves."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_goes_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stderr)
    show_all()
    lines = stderr.getvalue().split("\n")
    assert "training" in stderr.getvalue()
    assert lines[-2:] == ["done", ""] or lines[-2].endswith("done")
    assert not any(line.startswith("training 2/20") for line in lines)


def test_an_evaluation_within_a_training_takes_the_terminals_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stderr = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stderr)
    with Bar("training", 20) as bar:
        bar.step("loss 2")
        begun = len(stderr.getvalue())
        with Bar("evaluating", 2) as inner, saying("writing"):
            time.sleep(0.3)  # rich draws ten times a second
            inner.step("loss 3")
        within = stderr.getvalue()[begun:]
        bar.step("loss 1")
    assert "writing" in within
    assert within.index("evaluating") < within.index("writing") < within.rindex("training")
    assert within.count("training") <= 2  # at its stop, and when it is the turn again
    assert "2/20" in stderr.getvalue()[begun + len(within) :]


class Handle:
    """What IPython's ``display`` gives: it writes a place of a cell's output once more."""

    def __init__(self) -> None:
        self.pictures: list[str] = []

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.pictures.append(bundle["text/html"])


def test_a_notebook_has_a_bar_in_one_place_and_no_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places: list[Handle] = []

    def display(bundle: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert display_id
        places.append(Handle())
        places[-1].update(bundle, raw=raw)
        return places[-1]

    shell: Any = SimpleNamespace(kernel=object(), execution_count=1)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    show_all()
    assert capsys.readouterr().err == "done\n"
    (pictures,) = (place.pictures for place in places)  # one after another in the same place
    assert pictures[:2] == ["<div>loading &lt;weights&gt;</div>", ""]
    assert pictures.count("") == 3
    assert 'value="1.0000"' in pictures[-4]
    assert "20/20  loss 2" in pictures[-4]
    assert "100% of 0.0 MB" in pictures[-2]
    assert not pictures[-1]
    with Bar("training", 2) as bar, saying("saving"):
        bar.step("loss 2")
    assert len(places) == 2  # both at once
    shell.execution_count = 2
    show_all()
    assert len(places) == 3
    del shell.kernel  # IPython at a terminal
    show_all()
    assert len(places) == 3
