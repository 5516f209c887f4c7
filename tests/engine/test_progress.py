"""Lines of progress where no terminal is."""

from __future__ import annotations

import time

import pytest

from gpt2dsl.engine.progress import Bar


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
