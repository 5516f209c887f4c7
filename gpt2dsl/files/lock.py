"""Exclusive lock on a folder, on local and shared disks.

On one machine the kernel's lock (flock) decides; it ends with its process. A shared disk may lack
it, or limit it to one machine: there a lease decides, a file that its owner touches every ten
seconds and that others take over if it has not changed for thirty.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from gpt2dsl.errors import InUseError

LOCK, LEASE, OWNER = ".lock", ".lease", ".owner.json"
FILES = (LOCK, LEASE, OWNER)
DURATION = 30.0
"""Seconds after which an untouched lease is taken over; must be the same for all processes."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock an existing folder for the duration of the block.

    Raises:
        InUseError: another process holds the lock; the error names process, host and start time.
    """
    from filelock import SoftFileLease, Timeout  # noqa: PLC0415  # not needed by readers

    with (folder / LOCK).open("a") as lock:
        if not _locked(lock):
            raise _busy(folder)
        lease = SoftFileLease(folder / LEASE, lease_duration=DURATION)
        try:
            # A dead owner is detected by its pid on this machine, by its lease on another.
            lease.acquire(timeout=DURATION + 5 if _is_stale(folder) else 0)
        except Timeout:
            raise _busy(folder) from None
        try:
            (folder / OWNER).write_text(json.dumps(_myself()) + "\n", encoding="utf-8")
            yield
        finally:
            with suppress(OSError):
                (folder / OWNER).unlink()
            lease.release()


def is_held(folder: Path) -> bool:
    """Return whether a process holds a folder's lock, on this machine or another."""
    try:
        with suppress(FileNotFoundError), (folder / LOCK).open("rb") as lock:
            # A shared lock, released at once: two observers do not mistake each other for a run.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # No flock on this disk, or no permission: the lease decides.
    owner = _owner(folder)
    return bool(owner) and owner.get("host") != socket.gethostname() and not _is_stale(folder)


def _locked(lock: TextIO) -> bool:
    """Take the lock and return whether that worked; retry, as observers hold it briefly."""
    for _ in range(5):
        with suppress(BlockingIOError):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:
                return True  # No flock on this disk: the lease alone decides.
            return True
        time.sleep(0.05)
    return False


def _is_stale(folder: Path) -> bool:
    """Return whether a lease exists that has not been touched for half its duration."""
    try:
        return time.time() - (folder / LEASE).stat().st_mtime > DURATION / 2
    except OSError:
        return False


def _myself() -> dict[str, Any]:
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since}


def _owner(folder: Path) -> dict[str, Any]:
    try:
        document = json.loads((folder / OWNER).read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _busy(folder: Path) -> InUseError:
    owner = _owner(folder)
    who = "another process"
    if owner:
        who = f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}"
    return InUseError(
        "G2-402",
        f"{folder}: {who}, is working here; wait for it, end it, or say another runtime.output",
    )
