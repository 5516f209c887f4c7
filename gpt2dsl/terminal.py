"""The standard streams, safe when they are closed, full, or pipes that nobody reads any more."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from gpt2dsl.errors import RunError

_LOST = (OSError, ValueError, RuntimeError)
"""Errors of writing: a broken pipe or a full disk, a closed stream, and a signal's handler that
writes while the main program does."""


_LAST = 2
"""The highest descriptor of the three."""


class Lenient:
    """A stream that ignores failures to write: nobody may be watching progress any more."""

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
    """A command's stdout, which raises one clear error when a result can't be written.

    A pipe whose reader has left is none: nothing more can be said to whoever read it.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write all of it.

        Raises:
            RunError: the disk is full, stdout is closed, or its encoding lacks a character.
        """
        try:
            return self._stream.write(text)
        except UnicodeEncodeError as error:
            lacking = ascii(error.object[error.start])
            advice = "PYTHONIOENCODING=utf-8 has all"
            message = f"stdout: its encoding, {error.encoding}, has no {lacking}; {advice} [G2-402]"
            raise RunError(message) from error
        except OSError as error:
            raise _unwritten(error) from error

    def flush(self) -> None:
        """Flush it; raises as ``write`` does."""
        try:
            self._stream.flush()
        except OSError as error:
            raise _unwritten(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _unwritten(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return error
    return RunError(f"stdout: it can't be written: {error.strerror or error} [G2-402]")


def stderr() -> IO[str]:
    """Return stderr as a stream that never raises, below any bar that is drawn on it."""
    stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
    return cast("IO[str]", stream if isinstance(stream, Lenient) else Lenient(stream))


def write(text: str) -> None:
    """Write to stderr, above any bar that is drawn on it; never raise."""
    stream = Lenient(sys.stderr)
    stream.write(text)
    stream.flush()


def say(line: str) -> None:
    """Write a line to stderr; never raise."""
    write(line + "\n")


QUIET = "GPT2DSL_QUIET"
"""The variable that asks for no progress; processes that are started inherit it."""


def is_quiet() -> bool:
    """Return whether no progress is to be shown."""
    return os.environ.get(QUIET, "0") not in ("", "0")


@contextmanager
def quietly(*, wanted: bool = True) -> Iterator[None]:
    """Show no progress within, here and in processes that are started, where that is wanted."""
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
    """Make the standard streams safe for a command, and give its stdout.

    A descriptor that was closed is taken by the next file that is opened, which would then get
    whatever a library prints: /dev/null takes its place. Writing to a closed stdout is an error
    when there is something to write, and not before.
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
    """Drop what can't be written, so that the interpreter does not fail at it once more."""
    try:
        stream.flush()
    except OSError:
        with suppress(*_LOST):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
