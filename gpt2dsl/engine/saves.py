"""Saves of a training run: one at a time, each written by a background thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

from typing_extensions import Self

from gpt2dsl.engine.checkpoint_writer import CheckpointWriter
from gpt2dsl.errors import Gpt2DslError, RunError
from gpt2dsl.files.writers import Abandoned
from gpt2dsl.terminal import say

Told = Callable[[int, Path], None]


class Save:
    """One save, under way until ``wait`` returns or ``is_over``.

    Attributes:
        step: step of the checkpoint.
        folder: its final name.
        error: the failure, once it is over; None for a checkpoint that is sealed.
    """

    def __init__(self, step: int, folder: Path, write: Callable[[], None]) -> None:
        self.step, self.folder = step, folder
        self.error: BaseException | None = None
        self._write = write
        # A process that ends at once leaves an unsealed folder, which the next one removes.
        self._thread = Thread(target=self._run, name=f"checkpoint of step {step}", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether it has succeeded or failed."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Wait until it is over."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._write()
        except BaseException as error:  # noqa: BLE001  # raised or told by the main thread
            self.error = error
        del self._write  # with the copy of the state


class Saves:
    """The saves of a run, and the context in which they are made.

    Leaving it after an error waits for the save under way; after a second Ctrl-C, or when another
    rank is lost, that save is abandoned.

    Args:
        writer: writer of the checkpoints.
        is_async: whether ``begin`` returns once the state is copied.
        told: called with step and folder of each checkpoint once it is sealed.
    """

    def __init__(self, writer: CheckpointWriter, *, is_async: bool, told: Told) -> None:
        self._writer, self._is_async, self._told = writer, is_async, told
        self._pending: Save | None = None
        self._last: Save | None = None
        self._abandoned = Event()
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Of several ranks, others may be dead after an error that is not ours.
        expected = Exception if self._writer.contents.team.is_alone else Gpt2DslError
        if error is not None and not isinstance(error, expected):
            self._abandoned.set()
        elif self._pending:
            self._pending.wait()

    def begin(self, best: int | None) -> Path:
        """Begin the save of the current step, after the one under way (all ranks must call it).

        Returns:
            The checkpoint's final name.

        Raises:
            RunError: it failed, and the run is to wait for each save.
        """
        self.settle()
        step, folder = self._writer.contents.step.steps, self._writer.folder
        write = self._writer.begin(best, self._abandoned.is_set)
        self._pending = self._last = Save(step, folder, write)
        if not self._is_async:
            self.finish()
        return folder

    def hear(self) -> None:
        """Tell of the save under way if it is over; a failure is reported, and training goes on."""
        if self._pending and self._pending.is_over:
            self.settle()

    def finish(self) -> None:
        """Wait for the last save.

        Raises:
            RunError: it failed.
        """
        if self._pending:
            self._pending.wait()
        if self._last and self._last.error:
            self._pending = None
            raise self._last.error
        self.settle()

    def settle(self) -> None:
        """Wait for the save under way, and tell of it."""
        save, self._pending = self._pending, None
        if save is None:
            return
        save.wait()
        if save.error is None:
            self._told(save.step, save.folder)
        elif isinstance(save.error, RunError):
            self.failures.append(f"the checkpoint of step {save.step} was not written")
            say(f"{save.error}; training goes on without the checkpoint of step {save.step}")
        elif not isinstance(save.error, Abandoned):
            raise save.error
