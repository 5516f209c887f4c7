"""Folders written by several processes: one makes it, each writes a part, the maker waits for all.

The processes may be on several machines and share nothing but the folder. Each has a mark in it,
``.writing-<number>``, which names the process once it has begun. At its end it is renamed to
``.done-<number>`` or ``.failed-<number>``: a new name needs no room on a full disk.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_WRITING = re.compile(r"\.writing-\d+-(?P<pid>\d+)@(?P<host>.*)", re.DOTALL)

_POLL, _LONGEST_POLL = 0.01, 0.25
"""Seconds between two looks at the marks: at first, and at most."""

Entries = dict[str, str]


class Abandoned(Exception):  # noqa: N818  # an event, not a fault
    """The maker no longer wants the folder."""


def invite(folder: Path, numbers: Iterable[int]) -> None:
    """Make the marks of other writers, which so can't fail to tell how they ended.

    Raises:
        OSError: the disk is full or not writable.
    """
    for number in numbers:
        (folder / f".writing-{number}").touch()


@contextmanager
def writing_part(folder: Path, number: int) -> Iterator[Entries]:
    """Mark this process as a writer; yield entries for the maker, who learns of a failure too.

    Nothing in the folder may be touched after the block: the maker may rename it.
    """
    invited = folder / f".writing-{number}"
    mark = folder / f"{invited.name}-{os.getpid()}@{socket.gethostname()}"
    entries: Entries = {}
    try:
        invited.rename(mark)
        yield entries
        mark.write_text(json.dumps(entries), "utf-8")
    except BaseException as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        with suppress(OSError):
            mark.write_text(reason, "utf-8")
        for path in (mark, invited):
            with suppress(OSError):
                path.rename(folder / f".failed-{number}")
        raise
    mark.rename(folder / f".done-{number}")


def wait(folder: Path, numbers: Iterable[int], is_abandoned: Callable[[], bool]) -> Entries:
    """Return the entries of all other writers, once all have ended; remove their marks.

    Raises:
        OSError: one of them failed; its text names the writer and the reason.
        Abandoned: ``is_abandoned`` returned true.
    """
    remaining, poll = sorted(numbers), _POLL
    entries: Entries = {}
    failures: list[str] = []
    while remaining and not is_abandoned():
        for number in list(remaining):
            done, failed = folder / f".done-{number}", folder / f".failed-{number}"
            if done.exists():
                entries |= json.loads(done.read_text("utf-8"))
                done.unlink()
            elif failed.exists():
                failures.append(f"rank {number}: {failed.read_text('utf-8') or 'it failed'}")
            else:
                continue
            remaining.remove(number)
        if remaining:
            time.sleep(poll)
            poll = min(2 * poll, _LONGEST_POLL)
    if is_abandoned():
        raise Abandoned
    if failures:
        raise OSError("; ".join(failures))
    return entries


def are_running(folder: Path) -> bool:
    """Return whether another process of this machine is writing a part of a folder."""
    if not folder.is_dir():
        return False
    with suppress(FileNotFoundError):
        matches = (_WRITING.fullmatch(entry.name) for entry in folder.iterdir())
        return any(
            match["host"] == socket.gethostname()
            and int(match["pid"]) != os.getpid()
            and is_running(int(match["pid"]))
            for match in matches
            if match
        )
    return False


def is_running(pid: int) -> bool:
    """Return whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
