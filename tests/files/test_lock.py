from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt2dsl.errors import InUseError
from gpt2dsl.files import lock

HOLDER = """
import sys, time
from pathlib import Path
from gpt2dsl.files import lock
with lock.alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_second_process_is_told_who_works_here_since_when(tmp_path: Path) -> None:
    process = holder(tmp_path)
    assert lock.is_held(tmp_path)
    who = rf"process {process.pid} on {socket.gethostname()}, since"
    with pytest.raises(InUseError, match=who), lock.alone(tmp_path):
        pass
    end(process)


def test_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    end(holder(tmp_path))
    assert not lock.is_held(tmp_path)
    started = time.monotonic()
    with lock.alone(tmp_path):
        assert lock.is_held(tmp_path)
    assert time.monotonic() - started < 5


def test_nothing_but_the_empty_lock_is_left(tmp_path: Path) -> None:
    with lock.alone(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [lock.LOCK]
    assert not lock.is_held(tmp_path)


def foreign(folder: Path, *, seconds_ago: float) -> None:
    """What a process of another host leaves on a shared disk."""
    lines = ("filelock/2", "pid=4", "host=elsewhere", "mode=lease", "token=a", "duration=30.0")
    (folder / lock.LEASE).write_text("".join(f"{line}\n" for line in lines))
    owner = {"host": "elsewhere", "pid": 4, "since": "2026-01-01T00:00:00+00:00"}
    (folder / lock.OWNER).write_text(json.dumps(owner))
    touched = time.time() - seconds_ago
    os.utime(folder / lock.LEASE, (touched, touched))


def test_a_process_of_another_host_is_seen_without_the_kernels_lock(tmp_path: Path) -> None:
    foreign(tmp_path, seconds_ago=1)
    assert lock.is_held(tmp_path)
    who = "process 4 on elsewhere, since 2026-01-01"
    with pytest.raises(InUseError, match=who), lock.alone(tmp_path):
        pass


def test_a_dead_process_of_another_host_holds_nobody_up_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "DURATION", 1.0)
    foreign(tmp_path, seconds_ago=60)
    path = tmp_path / lock.LEASE
    path.write_text(path.read_text().replace("30.0", "1.0"))
    os.utime(path, (0, 0))
    assert not lock.is_held(tmp_path)
    with lock.alone(tmp_path):
        assert json.loads((tmp_path / lock.OWNER).read_text())["pid"] == os.getpid()
