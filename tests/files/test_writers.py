"""A folder written by several processes, and what becomes of it when some die."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt2dsl.files import atomic, writers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    writers.invite(made, range(1, 3))
    return made


@pytest.fixture
def living() -> Iterator[int]:
    """A process that waits."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")


def write(folder: Path, number: int, error: OSError | None = None) -> None:
    with writers.writing_part(folder, number) as entries:
        (folder / f"part-{number}").write_text("part")
        entries[f"part-{number}"] = str(number)
        if error:
            raise error


def wait(folder: Path) -> writers.Entries:
    return writers.wait(folder, range(1, 3), lambda: False)


def test_the_maker_gets_the_entries_of_all_once_they_are_done(folder: Path) -> None:
    write(folder, 2)
    late = threading.Timer(0.2, write, (folder, 1))
    late.start()
    assert wait(folder) == {"part-1": "1", "part-2": "2"}
    assert sorted(path.name for path in folder.iterdir()) == ["part-1", "part-2"]


def test_a_failure_is_told_with_its_writer_once_the_others_have_ended(folder: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        write(folder, 1, OSError(errno.ENOSPC, "No space left on device"))
    late = threading.Timer(0.2, write, (folder, 2))
    late.start()
    with pytest.raises(OSError, match=r"^rank 1: No space left on device$"):
        wait(folder)
    assert (folder / "part-2").exists()


def test_a_failure_is_told_where_nothing_can_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write(folder, 1)
    monkeypatch.undo()
    write(folder, 2)
    with pytest.raises(OSError, match=r"^rank 1: it failed$"):
        wait(folder)


def test_a_maker_that_no_longer_wants_the_folder_waits_for_nobody(folder: Path) -> None:
    with pytest.raises(writers.Abandoned):
        writers.wait(folder, range(1, 3), lambda: True)


def test_a_folder_of_a_dead_maker_stays_while_a_writer_lives(tmp_path: Path, living: int) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    left = tmp_path / f".step-3.tmp-{dead.pid}-0@{host}"
    left.mkdir()
    for name in (f".writing-1-{dead.pid}@{host}", f".writing-2-{living}@{host}", ".writing-3"):
        (left / name).touch()
    atomic.sweep(tmp_path)
    assert left.exists()
    (left / f".writing-2-{living}@{host}").rename(left / ".done-2")
    atomic.sweep(tmp_path)
    assert not left.exists()


def test_a_folder_of_a_living_maker_stays_when_a_writer_dies(tmp_path: Path, living: int) -> None:
    made = tmp_path / f".step-3.tmp-{living}-0@{socket.gethostname()}"
    made.mkdir()
    (made / f".writing-1-{2**22 + 1}@{socket.gethostname()}").touch()
    atomic.sweep(tmp_path)
    assert made.exists()


def test_a_folder_that_another_process_is_cleaning_up_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f".step-3.tmp-{os.getpid()}-0@{socket.gethostname()}"
    left.mkdir()

    def gone(_: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(atomic, "remove", gone)
    atomic.sweep(tmp_path)
