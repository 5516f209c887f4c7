"""Standard streams that are safe when closed, on full disks and on broken pipes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from gpt2dsl.errors import RunError

_LOST = (OSError, ValueError, RuntimeError)
"""Write errors: a broken pipe or full disk, a closed stream, and a signal handler that writes while
the main program does."""


_LAST = 2
"""The highest descriptor of the standard streams."""


class Lenient:
    """A stream that ignores write errors, since nobody may be watching progress any more."""

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write as much as can be written."""
        if self._stream is not None:
            with suppress(*_LOST):
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        if self._stream is not None:
            with suppress(*_LOST):
                self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Output:
    """stdout of a command, which raises a clear error if a result can't be written.

    A broken pipe is passed on unchanged: its reader is gone, so no message can reach it.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text completely.

        Raises:
            RunError: the disk is full, stdout is closed, or its encoding lacks a character.
        """
        try:
            return self._stream.write(text)
        except UnicodeEncodeError as error:
            lacking = ascii(error.object[error.start])
            advice = "PYTHONIOENCODING=utf-8 has all"
            message = f"stdout: its encoding, {error.encoding}, has no {lacking}; {advice}"
            raise RunError("G2-402", message) from error
        except OSError as error:
            raise _unwritten(error) from error

    def flush(self) -> None:
        """Flush the stream; errors as for ``write``."""
        try:
            self._stream.flush()
        except OSError as error:
            raise _unwritten(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _unwritten(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return error
    return RunError("G2-402", f"stdout: it can't be written: {error.strerror or error}")


def stderr() -> IO[str]:
    """Return stderr, bypassing any progress bar, as a stream that never raises."""
    stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
    return cast("IO[str]", stream if isinstance(stream, Lenient) else Lenient(stream))


def write(text: str) -> None:
    """Write to stderr, above any progress bar; never raise."""
    stream = Lenient(sys.stderr)
    stream.write(text)
    stream.flush()


def say(line: str) -> None:
    """Write a line to stderr; never raise."""
    write(line + "\n")


QUIET = "GPT2DSL_QUIET"
"""Environment variable that disables progress output, here and in child processes."""


def is_quiet() -> bool:
    """Return whether progress output is disabled."""
    return os.environ.get(QUIET, "0") not in ("", "0")


@contextmanager
def quietly(*, wanted: bool = True) -> Iterator[None]:
    """Disable progress output within the block, here and in child processes, if wanted."""
    before = os.environ.get(QUIET)
    if wanted:
        os.environ[QUIET] = "1"
    try:
        yield
    finally:
        if wanted and before is None:
            os.environ.pop(QUIET, None)
        elif wanted and before is not None:
            os.environ[QUIET] = before


@contextmanager
def prepared() -> Iterator[Output]:
    """Make the standard streams safe for a command, and yield its stdout.

    Closed descriptors are replaced by /dev/null: otherwise the next file to be opened would take
    one and receive whatever a library prints. A closed stdout is an error only once something is
    written to it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= _LAST:
        pass
    os.close(descriptor)
    before = sys.stdout, sys.stderr
    stdout = sys.stdout or io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    output = Output(stdout)
    sys.stdout, sys.stderr = cast("Any", output), stderr()
    try:
        yield output
    finally:
        sys.stdout, sys.stderr = before
        for stream in filter(None, before):
            _settle(stream)


def _settle(stream: IO[str]) -> None:
    """Discard output that can't be written, so that interpreter shutdown does not fail again."""
    try:
        stream.flush()
    except OSError:
        with suppress(*_LOST):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
