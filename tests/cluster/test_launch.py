from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl.cluster import control_channel, launch
from gpt2dsl.cluster.control_channel import ControlChannel
from gpt2dsl.cluster.hosts import Host
from gpt2dsl.cluster.supervisor import STOPPED, Node, Timeouts, free_port, supervise
from gpt2dsl.errors import Interrupted, RunError
from gpt2dsl.signals import Signals
from tests.cluster.jobs import Job, gone

OBEDIENT = """
import os, sys
for word in sys.stdin:
    sys.exit({"stop": 3, "end": 0}[word.strip()])
"""


def run(*scripts: str) -> None:
    """Scripts as the machines a, b, ... of a job, a rank each."""
    hosts = [
        Host(address=name, devices=1, first=rank, origin="")
        for rank, name in zip(range(len(scripts)), "abc", strict=False)
    ]
    launch.launch(hosts, [[sys.executable, "-c", textwrap.dedent(script)] for script in scripts])


def test_the_first_machines_output_is_ours(capfd: Any) -> None:
    say = "import sys; print('result of', '{0}'); print('words of', '{0}', file=sys.stderr)"
    run(say.format("a"), say.format("b"))
    assert capfd.readouterr() == ("result of a\n", "words of a\n")


@pytest.mark.usefixtures("job")  # it looks for processes that are left
def test_one_that_fails_is_named_with_its_last_lines_and_ends_the_others() -> None:
    fail = "import sys; print('no disk\\n\\nno luck', file=sys.stderr); sys.exit(7)"
    with pytest.raises(RunError) as caught:
        run(OBEDIENT, fail, OBEDIENT)
    assert str(caught.value) == (
        "b (rank 1): exit code 7; its last lines:\n  b: no disk\n  b: no luck [G2-523]"
    )


@pytest.mark.usefixtures("job")
def test_one_that_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "PATIENCE", 0.5)
    with pytest.raises(RunError, match=r"^a \(rank 0\): killed by SIGKILL\nnot known to .*: b "):
        run("import os; os.kill(os.getpid(), 9)", "import time; time.sleep(60)")


def test_what_cannot_be_started_is_named() -> None:
    with pytest.raises(RunError, match=r"^none can't be started: No such file or directory"):
        launch.launch([Host(address="a", devices=1, first=0, origin="")], [["none"]])


@pytest.mark.usefixtures("job")
def test_the_first_ctrl_c_is_passed_to_the_first_machine_only() -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(Interrupted, match="stopped on all machines"):
        run(OBEDIENT, f"import time, sys; time.sleep(1.5); sys.exit({STOPPED})")


@pytest.mark.usefixtures("job")
def test_the_second_ctrl_c_ends_all() -> None:
    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    threading.Timer(0.5, twice).start()
    with pytest.raises(KeyboardInterrupt):
        run("import sys; [sys.exit(0) for word in sys.stdin if word == 'end\\n']", OBEDIENT)


def test_orders_count_as_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_channel, "GRACE", 0.05)
    signals = Signals()
    heard = ControlChannel(signals)
    heard.take(b"hello\nst")
    assert signals.count == 0
    heard.take(b"op\n")
    heard.take(b"")
    heard.insist()
    assert signals.count == 1
    time.sleep(0.1)
    heard.insist()
    assert signals.count == 2


def obeying(job: Job, word: bytes, script: str) -> None:
    """Two ranks whose supervisor is told a word, or sees the launcher go, when both are there."""
    ours, theirs = os.pipe()
    here: set[int] = set()

    def take(report: dict[str, Any]) -> None:
        job.note(report, None)
        here.update([report["rank"]] if report["kind"] == "step" else [])
        if len(here) == 2:
            here.clear()
            if word:
                os.write(theirs, word)
            else:
                os.close(theirs)

    node = Node(ranks=2, local=2, port=free_port(), schedules=False)
    limits = Timeouts(collective=10, end=1)
    try:
        supervise(job.write(script), node, job.logs, limits, on_report=take, orders=ours)
    finally:
        assert all(map(gone, job.pids.values()))
        if word:
            os.close(theirs)


@pytest.mark.parametrize("word", [b"end\n", b""])
def test_ranks_end_at_a_launchers_word_and_when_it_is_gone(
    word: bytes, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_channel, "GRACE", 0.5)
    with pytest.raises(KeyboardInterrupt):
        obeying(job, word, "signal.signal(2, signal.SIG_IGN)\nreporter.step(1)\ntime.sleep(60)")


@pytest.mark.parametrize("word", [b"stop\n", b""])
def test_a_launchers_wish_to_stop_reaches_the_first_rank(word: bytes, job: Job) -> None:
    script = f"""
        def stop(number, frame):
            reporter.error("stopped after step 1")
            sys.exit({STOPPED})
        if rank == 0:
            signal.signal(2, stop)
        reporter.step(1)
        time.sleep(60 if rank == 0 else 1)
        """
    with pytest.raises(Interrupted, match="stopped after step 1"):
        obeying(job, word, script)


def test_stdin_is_a_launchers_where_it_is_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").touch()
    with (tmp_path / "in").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert control_channel.from_stdin() is None
    ours, theirs = os.pipe()
    with os.fdopen(ours) as file:
        monkeypatch.setattr("sys.stdin", file)
        found = control_channel.from_stdin()
        assert found not in {None, ours}
        os.close(found or 0)
    os.close(theirs)
