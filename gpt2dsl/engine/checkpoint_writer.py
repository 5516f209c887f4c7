"""Writing of one checkpoint by one or all ranks: made and sealed by the main process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import attrs

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.engine.checkpoint_contents import CheckpointContents, Digests, Write
from gpt2dsl.engine.job import Job
from gpt2dsl.engine.train_step import config_of, generation_of
from gpt2dsl.errors import FileError
from gpt2dsl.files import writers
from gpt2dsl.identity.identity import Identity
from gpt2dsl.training.step import TrainStep
from gpt2dsl.weights import nearby, store


@attrs.frozen(kw_only=True)
class CheckpointWriter:
    """Writer of a run's checkpoints.

    Attributes:
        parent: their folder.
        contents: what this rank writes.
        identity: everything that the run's result depends on.
        keep: number of checkpoints to keep, besides the best one.
        micro_batches: recorded in the state, as is the layout.
    """

    parent: Path
    contents: CheckpointContents
    identity: Identity
    keep: int
    micro_batches: int = 1

    @property
    def folder(self) -> Path:
        """The checkpoint of the current step."""
        return self.parent / f"step-{self.contents.step.steps}"

    def begin(self, best: int | None, is_abandoned: Callable[[], bool]) -> Callable[[], None]:
        """Take this rank's part of the current state; return the function that writes it.

        All ranks must call it. The function may run in another thread: it calls no collective. On
        the main process it returns once the checkpoint is sealed, elsewhere once the part is
        written.

        Args:
            best: the step whose checkpoint is kept, however old.
            is_abandoned: whether the checkpoint is no longer wanted.
        """
        team, final = self.contents.team, self.folder
        write = self.contents.taken(self._document())
        if not team.is_main_process:
            name = team.gather("")[0] if self.contents.is_split else ""
            return partial(self._write_part, self.parent / name, final, write) if name else _nothing
        stack, digests = ExitStack(), Digests()
        try:
            folder = stack.enter_context(self._making(final, digests))
        except FileError as error:
            self._tell("")
            return partial(_fail, error)
        self._tell(folder.name)

        def seal() -> None:
            with stack:
                digests.update(self._written(folder, write, is_abandoned))
            self._prune(best)

        return seal

    def _tell(self, name: str) -> None:
        """Tell the other writers the name of the unfinished folder; "" if there is none."""
        if self.contents.is_split:
            self.contents.team.gather(name)

    @contextmanager
    def _making(self, final: Path, digests: Digests) -> Iterator[Path]:
        meta: dict[str, Any] = {"step": self.contents.step.steps}
        meta |= nearby.noted(final, self.contents.base)
        if self.contents.is_split:
            meta["layout"] = {"ranks": attrs.asdict(self.contents.team.dims), "once": True}
        with store.writing(final, meta, digests, replace=True) as folder:
            writers.invite(folder, self._others)
            yield folder

    @property
    def _others(self) -> range:
        """The other ranks that write."""
        return range(1, self.contents.team.dims.count if self.contents.is_split else 1)

    def _document(self) -> Mapping[str, Any]:
        return {
            **self.contents.step.progress(),
            "layout": str(self.contents.team.dims),
            "micro_batches": self.micro_batches,
            "identity": self.identity.to_json(),
        }

    def _write_part(self, folder: Path, final: Path, write: Write) -> None:
        """Write the part of a rank that is not the main process."""
        try:
            with writers.writing_part(folder, self.contents.team.rank) as entries:
                entries.update(write(folder))
        except OSError as error:
            raise FileError.unwritable(final, error) from error

    def _written(self, folder: Path, write: Write, is_abandoned: Callable[[], bool]) -> Digests:
        """Write the main process's part and wait for the others'; return all checksums."""
        try:
            digests = write(folder)
        except BaseException:
            with suppress(OSError):  # they still write to the folder, which is to be removed
                writers.wait(folder, self._others, is_abandoned)
            raise
        return digests | writers.wait(folder, self._others, is_abandoned)

    def _prune(self, best: int | None) -> None:
        try:
            store.prune(self.parent, self.keep, best)
        except OSError as error:
            raise FileError.unwritable(self.parent, error) from error


def checkpoint_writer(
    job: Job, parent: Path, step: TrainStep, team: ParallelContext, tokenizer: Tokenizer
) -> CheckpointWriter:
    """Return the writer of a job's checkpoints into a folder, ``parent``."""
    parts = job.parts
    contents = CheckpointContents(
        step=step,
        tokenizer=tokenizer,
        team=team,
        copies=parts.train.async_save,
        classes=job.classes,
        base=job.base,
        config=config_of(job),
        generation=generation_of(job, tokenizer),
        adapter_dropout=parts.lora.dropout if parts.lora else 0.0,
    )
    return CheckpointWriter(
        parent=parent,
        contents=contents,
        identity=job.identity,
        keep=parts.train.keep,
        micro_batches=parts.parallel.micro_batches,
    )


def _fail(error: FileError) -> NoReturn:
    raise error


def _nothing() -> None:
    """Write nothing."""
