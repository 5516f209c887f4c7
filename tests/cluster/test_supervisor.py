from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl.cluster.supervisor import STOPPED, Node, Timeouts, free_port, supervise
from gpt2dsl.errors import Interrupted, RunError
from tests.cluster.jobs import COLLECTIVE, Job, gone


def test_all_end_well(job: Job) -> None:
    job.run("print('I am', rank, os.environ['DEVICE_ID'])\nreporter.step(3)\n")
    assert "I am 0 0" in job.log("rank_0")
    assert "I am 1 1" in job.log("rank_1")
    steps = [report for report in job.told if report["kind"] == "step"]
    assert sorted(report["rank"] for report in steps) == [0, 1]


def test_logs_are_fresh_per_start(job: Job) -> None:
    job.run("print('first')")
    job.run("print('second')")
    assert job.log("rank_1") == "second\n"


def test_one_that_fails_is_named_with_its_last_lines(job: Job) -> None:
    with pytest.raises(RunError) as caught:
        job.run(
            """
            if rank == 1:
                sys.exit("first line\\n\\nthe disk is full")
            time.sleep(60)
            """
        )
    message = str(caught.value)
    assert message.startswith(f"rank 1 ({socket.gethostname()}, pid {job.pids[1]}): exit code 1")
    assert f"{job.logs / 'rank_1.log'}:\n  first line\n  the disk is full\n" in message
    assert message.endswith("[G2-501]")


def test_its_own_words_go_before_its_log(job: Job) -> None:
    with pytest.raises(RunError, match=r"rank 0 .*: exit code 2: no data here \[G2-501\]$"):
        job.run("if rank: time.sleep(60)\nreporter.error('no data here')\nsys.exit(2)\n")


def test_the_cause_is_blamed_and_not_who_waited_for_it(job: Job) -> None:
    with pytest.raises(RunError, match=r"^rank 1 .*no data here"):
        job.run(
            """
            if rank == 0:
                sys.exit("Launch kernel failed: Default/AllReduce-op0")
            time.sleep(0.5)
            reporter.error("no data here")
            sys.exit(1)
            """
        )


def test_a_failed_collective_names_the_ranks_that_it_waited_for(job: Job) -> None:
    with pytest.raises(RunError) as caught:
        job.run("if rank == 0: sys.exit('AllReduce failed')\ntime.sleep(60)\n")
    assert str(caught.value).startswith("rank 0 ")
    assert f"still waited for: rank 1 ({socket.gethostname()}, pid {job.pids[1]})" in str(
        caught.value
    )


def test_one_that_is_killed_is_named(job: Job) -> None:
    def take(report: dict[str, Any]) -> None:
        if report == {"kind": "step", "step": 1, "rank": 2}:
            job.kill(2)

    with pytest.raises(RunError, match=r"^rank 2 .*killed by SIGKILL") as caught:
        job.run("reporter.step(1)\ntime.sleep(60)", ranks=3, take=take)
    assert f"pid {job.pids[2]}" in str(caught.value)


def test_one_that_ignores_sigterm_is_killed(job: Job) -> None:
    started = time.monotonic()
    with pytest.raises(RunError, match="rank 1"):
        job.run(
            """
            if rank == 1:
                time.sleep(0.5)
                sys.exit(1)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
            """
        )
    assert time.monotonic() - started < 10


STEPS = """
for step in range(5):
    reporter.step(step)
    time.sleep(0.05)
"""


def test_a_hang_is_seen_and_the_one_behind_is_blamed(job: Job) -> None:
    with pytest.raises(RunError, match=r"^rank 1 .*no step for [0-9] s, \d+ times the m") as caught:
        job.run(STEPS, "if rank == 0: reporter.step(5)\ntime.sleep(60)\n")
    assert str(caught.value).endswith("[G2-502]")


def test_ranks_silent_at_the_same_step_are_all_named(job: Job) -> None:
    with pytest.raises(RunError, match=r"^rank 0 \(.*\) or rank 1 \(.*\): no step for"):
        job.run("time.sleep(rank * 0.5)", STEPS, "time.sleep(60)")


def test_a_traceback_is_told_from_its_error_on(job: Job) -> None:
    with pytest.raises(RunError, match=r"rank_1.log:\n  RuntimeError: bad\n  line 1\n  line 2\n"):
        job.run(
            """
            if rank == 0:
                time.sleep(60)
            raise RuntimeError("\\n".join(["bad", "-" * 50, *(f"line {n}" for n in range(1, 20))]))
            """
        )


def test_a_long_phase_and_compilation_are_no_hang(job: Job) -> None:
    job.run(
        "reporter.step(0)\ntime.sleep(2)",
        STEPS,
        """
        if rank == 0:
            reporter.phase("evaluating", long=True)
            time.sleep(2.5)
            reporter.phase("training", long=False)
        else:
            time.sleep(3)
        reporter.done()
        """,
    )


def test_one_that_does_not_end_when_all_are_done_is_a_hang(job: Job) -> None:
    with pytest.raises(RunError, match=r"^rank 1 .*not ended \d s after its work was done"):
        job.run("reporter.done()\nif rank == 1: time.sleep(60)\n")


def test_one_that_crashes_after_its_work_is_done_has_done_it(job: Job) -> None:
    job.run("reporter.done()\nif rank == 1: os.kill(os.getpid(), 11)\n")
    with pytest.raises(RunError, match=r"^rank 1 .*killed by SIGSEGV"):
        job.run("if rank == 1: os.kill(os.getpid(), 11)\nreporter.done()\n")


@pytest.mark.parametrize("crashed", [(1,), (0, 1)])
def test_one_that_crashes_after_it_stopped_as_the_user_wanted_has_stopped(
    job: Job, crashed: tuple[int, ...]
) -> None:
    with pytest.raises(Interrupted, match=r"^stopped after step 7$"):
        job.run(
            "reporter.error('stopped after step 7')\nreporter.done()\n"
            f"if rank in {crashed}: os.kill(os.getpid(), 11)\nsys.exit({STOPPED})\n"
        )


def test_ctrl_c_goes_to_rank_0_which_stops_all(job: Job, tmp_path: Path) -> None:
    def take(report: dict[str, Any]) -> None:
        if report["kind"] == "ready":
            os.kill(os.getpid(), signal.SIGINT)

    flag = tmp_path / "stop"
    with pytest.raises(Interrupted, match=r"^stopped after step 7; checkpoint: here$"):
        job.run(
            f"""
            from pathlib import Path
            flag = Path({str(flag)!r})
            def stop(*_):
                assert rank == 0
                flag.touch()
            signal.signal(signal.SIGINT, stop)
            if rank == 0:
                time.sleep(0.3)
                reporter.other({{"kind": "ready"}})
            while not flag.exists():
                time.sleep(0.05)
            if rank == 0:
                reporter.error("stopped after step 7; checkpoint: here")
            sys.exit(3)
            """,
            take=take,
        )


def test_a_second_ctrl_c_ends_all_at_once(job: Job) -> None:
    def take(report: dict[str, Any]) -> None:
        if report["kind"] in {"ready", "stopping"}:
            os.kill(os.getpid(), signal.SIGINT)

    started = time.monotonic()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        job.run(
            """
            signal.signal(signal.SIGINT, lambda *_: reporter.other({"kind": "stopping"}))
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if rank == 0:
                reporter.other({"kind": "ready"})
            while True:
                time.sleep(1)
            """,
            take=take,
            end=30,
        )
    assert time.monotonic() - started < 10
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_before_the_ranks_listen_is_an_interrupt(job: Job) -> None:
    def take(report: dict[str, Any]) -> None:
        if report["rank"] == 0:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        job.run("time.sleep(60)", take=take)


def test_an_error_of_the_caller_ends_all_too(job: Job) -> None:
    def take(_: dict[str, Any]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        job.run("while True: reporter.step(1); time.sleep(0.01)", take=take)


def test_rank_0_speaks_in_front(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    job.run("sys.stderr.write(f'schön {rank}\\n[INFO] x\\n')\nprint('out', rank)\n")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "schön 0\n")
    assert {"schön 0", "out 0"} <= set(job.log("rank_0").splitlines())
    assert {"schön 1", "out 1"} <= set(job.log("rank_1").splitlines())


def test_the_bar_of_rank_0_moves_on_a_terminal(
    job: Job, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "90")
    job.run(
        """
        from rich.console import Console
        console = Console(stderr=True)
        sys.stderr.write(f"{console.is_terminal} {console.width}\\n")
        """
    )
    assert capfd.readouterr().err == "True 90\n"
    assert job.log("rank_1").startswith("False ")


def test_a_supervisor_that_is_killed_leaves_nothing(job: Job) -> None:
    command = job.write("signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)\n")
    code = f"""
import json
from pathlib import Path
from gpt2dsl.cluster.supervisor import *
supervise({command!r}, Node(ranks=2, local=2, port=1, schedules=False), Path({str(job.logs)!r}),
          Timeouts(collective=10), on_report=lambda report: print(json.dumps(report), flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout
        pids = [json.loads(supervisor.stdout.readline())["pid"] for _ in range(2)]
        supervisor.kill()
    until = time.monotonic() + 5
    while not all(map(gone, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert all(map(gone, pids))


def test_a_port_in_use_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        node = Node(ranks=1, local=1, port=other.getsockname()[1])
        with pytest.raises(RunError, match=r"in use; choose another port \[G2-503\]"):
            supervise(["true"], node, tmp_path, Timeouts(collective=10))


def test_a_command_that_is_none_is_told(tmp_path: Path) -> None:
    node = Node(ranks=1, local=1, port=1, schedules=False)
    with pytest.raises(RunError, match="rank 0 can't be started"):
        supervise(["no-such-command"], node, tmp_path, Timeouts(collective=10))


def test_a_scheduler_that_fails_is_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [sys.executable, "-c", "raise SystemExit('no server')"]
    monkeypatch.setattr("gpt2dsl.cluster.supervisor.SCHEDULER", failing)
    node = Node(ranks=1, local=1, port=free_port())
    with pytest.raises(RunError, match=r"(?s)^the scheduler .*exit code 1.*no server"):
        supervise(job.write("time.sleep(60)"), node, job.logs, Timeouts(collective=10, end=1))


def test_two_real_ranks_meet_and_end(job: Job) -> None:
    job.run(
        COLLECTIVE,
        """
        for step in range(3):
            print("sum", total(Tensor([float(rank + 1)])).asnumpy()[0])
            reporter.step(step)
        reporter.done()
        """,
        least=60,
    )
    assert job.log("rank_1").count("sum 3.0") == 3


def test_a_real_rank_that_is_killed_is_named_and_all_are_gone(
    job: Job, record_property: Callable[[str, object], None]
) -> None:
    killed: list[float] = []

    def take(report: dict[str, Any]) -> None:
        if report["kind"] == "step" and report["step"] > 5 and not killed:
            killed.append(time.monotonic())
            job.kill(1)

    with pytest.raises(RunError, match=r"^rank 1 .*killed by SIGKILL"):
        job.run(
            COLLECTIVE,
            """
            # As the engine: a wish that is heard after the step, which never ends.
            signal.signal(signal.SIGTERM, lambda *_: None)
            for step in range(10_000):
                total(Tensor([1.0])).asnumpy()
                reporter.step(step)
                time.sleep(0.05)
            """,
            take=take,
            least=60,
            end=5,
        )
    seconds = time.monotonic() - killed[0]
    record_property("seconds until all were gone", seconds)
    print(f"all gone after {seconds:.1f} s")  # noqa: T201
    assert seconds < 30


def test_a_machine_without_a_loopback_is_told_before_its_ranks_start(tmp_path: Path) -> None:
    code = (
        "import sys; from gpt2dsl.cluster.supervisor import *; from pathlib import Path\n"
        "node = Node(ranks=2, local=2, port=free_port())\n"
        "supervise(['none'], node, Path(sys.argv[1]) / 'logs', Timeouts(collective=100))\n"
    )
    command = ["unshare", "--net", sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.stderr.startswith("unshare:"):
        pytest.skip(f"no network namespace of its own here: {done.stderr.strip()}")
    assert "can't be reached from its own machine: Network is unreachable" in done.stderr
    assert "ip link set lo up [G2-503]" in done.stderr
    assert not list(tmp_path.rglob("rank_*.log"))
