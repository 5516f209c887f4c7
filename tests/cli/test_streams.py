"""Standard streams that are closed, full, or pipes that nobody reads any more."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt2dsl import terminal

FULL = Path("/dev/full")
COMMANDS = ("list", "show quickstart", "check quickstart --json", "--help")

SPEC = """
[model]
size = "nano"
layers = 1
heads = 1
hidden = 16
positions = 16
[data]
tokenizer = "train"
vocab = 300
[train]
batch_size = 2
seq_length = 8
steps = 1000000
[task]
kind = "pretrain"
data = "text.txt"
"""


def shell(words: str, redirected: str) -> subprocess.CompletedProcess[str]:
    command = f"{shlex.quote(sys.executable)} -m gpt2dsl {words} {redirected}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


@pytest.mark.skipif(not FULL.exists(), reason="a device of Linux")
@pytest.mark.parametrize("words", COMMANDS[:2])
def test_a_stdout_that_can_not_be_written_is_one_clear_error(words: str) -> None:
    for redirected, why in ((">/dev/full", "No space left"), (">&-", "Bad file descriptor")):
        done = shell(words, redirected)
        assert done.returncode == 1
        assert done.stderr.startswith(f"stdout: it can't be written: {why}")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not FULL.exists(), reason="a device of Linux")
@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-"])
def test_a_stderr_that_can_not_be_written_changes_nothing(redirected: str) -> None:
    assert shell("show quickstart", redirected).returncode == 0
    assert shell("show nonsense", redirected).returncode == 2
    assert shell("nonsense", redirected).returncode == 2


def test_a_reader_who_has_left_is_told_nothing() -> None:
    inlet, outlet = os.pipe()
    os.close(inlet)
    command = [sys.executable, "-m", "gpt2dsl", "list"]
    done = subprocess.run(command, stdout=outlet, stderr=subprocess.PIPE, text=True, check=False)
    os.close(outlet)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_character_that_stdout_lacks_is_named() -> None:
    variables = os.environ | {"PYTHONIOENCODING": "latin-1"}
    words = ["show", "quickstart", "--set", "model.weights=\u4e2d"]
    done = subprocess.run(
        [sys.executable, "-m", "gpt2dsl", *words],
        capture_output=True,
        text=True,
        check=False,
        env=variables,
    )
    assert done.returncode == 1
    assert "stdout: its encoding, latin-1, has no '\\u4e2d'" in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="a device of Linux")
def test_progress_is_written_nowhere_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    with io.TextIOWrapper(io.FileIO(FULL, "w"), write_through=True) as full:
        monkeypatch.setattr(sys, "stderr", full)
        terminal.say("nobody reads this")
        monkeypatch.setattr(sys, "stderr", None)
        terminal.say("nor this")


@pytest.mark.parametrize(
    ("number", "times"),
    [(signal.SIGINT, 1), (signal.SIGHUP, 2), (signal.SIGUSR1, 2), (signal.SIGTERM, 1)],
)
def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_though_nobody_reads_its_output(
    elsewhere: Path, number: signal.Signals, times: int
) -> None:
    (elsewhere / "text.txt").write_text("the old cat sat on the mat\n" * 200)
    (elsewhere / "run.toml").write_text(SPEC)
    inlet, outlet = os.pipe()
    run = subprocess.Popen(
        [sys.executable, "-m", "gpt2dsl", "run", "run.toml"],
        stdout=outlet,
        stderr=outlet,
        start_new_session=True,
    )
    os.close(outlet)
    try:
        wait_for_step(elsewhere, run)
        os.close(inlet)
        for _ in range(times):
            run.send_signal(number)
        assert run.wait(60) == 1
    finally:
        run.kill()
        run.wait()
    (checkpoint,) = elsewhere.glob("runs/*/checkpoints/step-*")
    assert (checkpoint / "manifest.json").exists()


def wait_for_step(folder: Path, run: subprocess.Popen[bytes]) -> None:
    """Wait until a run has done a step."""
    until = time.monotonic() + 120
    while time.monotonic() < until and run.poll() is None:
        if any(path.stat().st_size for path in folder.glob("runs/*/metrics.jsonl")):
            return
        time.sleep(0.05)
    raise AssertionError(f"no step was done; exit code {run.poll()}")
