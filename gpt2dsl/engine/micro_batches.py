"""The micro-batches of a training run, each prepared while the one before it computes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import attrs

from gpt2dsl.backend.cpu import cores
from gpt2dsl.data.examples import Examples
from gpt2dsl.data.order import rows_of
from gpt2dsl.data.rows import Rows
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.engine.clock import Clock
from gpt2dsl.engine.job import Job
from gpt2dsl.model.dropout_masks import Mask, masks
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2


class MicroBatches:
    """The micro-batches of this rank's rows.

    Threads read the rows and draw the dropout masks of the next micro-batch, of the same step or
    the following one, while the caller computes; of no more than one, because masks are large.

    Args:
        job: job of the run.
        rows: the data.
        network: this rank's part of the network.
        team: the ranks that share the work.
        clock: counts the time that is spent waiting for the threads.
    """

    def __init__(
        self, job: Job, rows: Rows | Examples, network: GPT2, team: ParallelContext, clock: Clock
    ) -> None:
        self._job, self._parts, self._rows = job, job.parts, rows
        self._network, self._team, self._clock = network, team, clock
        self._count = job.parts.parallel.micro_batches
        self._pool = ThreadPoolExecutor(cores(), "micro-batch")
        self._next: _Pending | None = None

    def of_step(self, done: int) -> Iterator[MicroBatch]:
        """Yield the micro-batches of the step that follows ``done`` completed ones."""
        for number in range(done * self._count, (done + 1) * self._count):
            yield self._take(number)  # without a name, which would keep it from being freed

    def close(self) -> None:
        """Stop preparing; return when no thread is at work."""
        self._pool.shutdown(cancel_futures=True)
        self._next = None

    def _take(self, number: int) -> MicroBatch:
        """Return a micro-batch, counted over all steps, and begin to prepare the next."""
        pending, self._next = self._next, None
        if pending is None or pending.number != number:
            pending = self._begin(number)
        with self._clock.of("data and dropout masks"):
            micro_batch = pending.result()
        if number + 1 < self._job.steps * self._count:
            self._next = self._begin(number + 1)
        return micro_batch

    def _begin(self, number: int) -> _Pending:
        parts, replicas = self._parts, self._team.data_group
        done, part = divmod(number, self._count)
        size = parts.train.batch_size // replicas.size // self._count
        first = (replicas.index * self._count + part) * size
        places = range(first, first + size)
        dropout_masks = masks(
            self._job.geometry,
            parts.train.seed,
            done,
            places,
            self._rows.length,
            adapters=self._network.adapters,
            adapter_dropout=parts.lora.dropout if parts.lora else 0.0,
            group=self._team.tensor_group,
            layers=self._network.layers,
            pool=self._pool,
        )
        return _Pending(number, self._pool.submit(self._read, done, places), dropout_masks)

    def _read(self, done: int, places: range) -> MicroBatch:
        """Return the rows at some places of a step's batch, without dropout masks."""
        train = self._parts.train
        indices = rows_of(done, train.batch_size, len(self._rows), train.seed)
        ids, labels = self._rows.batch(indices[places.start : places.stop])
        return MicroBatch(ids, labels, weight=self._rows.weight(indices))


@attrs.frozen
class _Pending:
    """A micro-batch in preparation.

    Attributes:
        number: its number, counted over all steps.
        rows: the micro-batch without its masks.
        dropout_masks: the masks.
    """

    number: int
    rows: Future[MicroBatch]
    dropout_masks: Iterator[Mask]

    def result(self) -> MicroBatch:
        """Return the micro-batch once it is ready."""
        return attrs.evolve(self.rows.result(), dropout_masks=tuple(self.dropout_masks))
