from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from gpt2dsl.files import atomic


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _entry(folder: Path, kind: str, pid: int, host: str = "") -> Path:
    return folder / f".final.{kind}-{pid}-7@{host or socket.gethostname()}"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "final"
    final.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic.write_file(final, fail)
    assert final.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_what_a_dead_process_was_writing_goes(tmp_path: Path) -> None:
    stale = _entry(tmp_path, "tmp", _dead_pid())
    (stale / "sub").mkdir(parents=True)
    atomic.sweep(tmp_path)
    assert not stale.exists()


def test_a_path_of_a_dead_process_that_had_our_id_goes(tmp_path: Path) -> None:
    stale = _entry(tmp_path, "tmp", os.getpid())
    stale.write_bytes(b"")
    atomic.sweep(tmp_path)
    assert not stale.exists()


def test_what_a_dead_process_was_replacing_comes_back(tmp_path: Path) -> None:
    old = _entry(tmp_path, "old", _dead_pid())
    old.write_bytes(b"old")
    atomic.sweep(tmp_path)
    assert (tmp_path / "final").read_bytes() == b"old"
    assert not old.exists()


def test_what_was_replaced_to_the_end_goes(tmp_path: Path) -> None:
    old = _entry(tmp_path, "old", _dead_pid())
    old.write_bytes(b"old")
    (tmp_path / "final").write_bytes(b"new")
    atomic.sweep(tmp_path)
    assert (tmp_path / "final").read_bytes() == b"new"
    assert not old.exists()


def test_what_others_are_writing_stays(tmp_path: Path) -> None:
    living = _entry(tmp_path, "tmp", os.getppid())
    elsewhere = _entry(tmp_path, "tmp", _dead_pid(), host="another-machine")
    foreign = tmp_path / ".final.tmp"
    for path in (living, elsewhere, foreign):
        path.write_bytes(b"")
    with atomic.neighbour(tmp_path / "final") as mine:
        mine.write_bytes(b"")
        atomic.sweep(tmp_path)
        assert all(path.exists() for path in (living, elsewhere, foreign, mine))
