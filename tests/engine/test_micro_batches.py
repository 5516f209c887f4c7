"""Micro-batches that are prepared ahead: the same ones, one at a time, and no work that is left."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest

from gpt2dsl import Model, Parallel, Task, Train
from gpt2dsl.data.order import rows_of
from gpt2dsl.data.rows import Rows
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.distributed.process_groups import ProcessGroup
from gpt2dsl.engine import micro_batches
from gpt2dsl.engine.clock import Clock
from gpt2dsl.engine.micro_batches import MicroBatches
from gpt2dsl.model import dropout_masks
from gpt2dsl.model.forward import MicroBatch
from tests.judges import TINY

GEOMETRY = attrs.evolve(TINY, dropout=0.1)
ROWS = Rows(np.arange(200, dtype=np.int32) % GEOMETRY.vocab, 9)
BATCH, MICRO, STEPS = 8, 2, 3


def prepared(team: ParallelContext | None = None, clock: Clock | None = None) -> MicroBatches:
    """Micro-batches of three steps of eight rows."""
    recipe = Model() | Train(batch_size=BATCH, seed=5) | Parallel(dp=2, micro_batches=MICRO)
    parts = (recipe | Task.pretrain(data="sample:train")).completed
    job: Any = SimpleNamespace(geometry=GEOMETRY, parts=parts, steps=STEPS)
    network: Any = SimpleNamespace(adapters=(), layers=range(GEOMETRY.layers))
    return MicroBatches(job, ROWS, network, team or replica(0), clock or Clock())


def replica(index: int) -> ParallelContext:
    return ParallelContext(data_group=ProcessGroup(2, index))


def expected(step: int, first: int) -> MicroBatch:
    """Two rows of a step's batch, and their masks, as one thread makes them."""
    indices = rows_of(step, BATCH, len(ROWS), 5)[first : first + 2]
    masks = dropout_masks.masks(GEOMETRY, 5, step, range(first, first + 2), ROWS.length)
    return MicroBatch(*ROWS.batch(indices), tuple(masks))


def workers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("micro-batch")]


@pytest.mark.parametrize("index", [0, 1])
def test_micro_batches_are_those_of_one_thread_to_the_bit(index: int) -> None:
    with closing(prepared(replica(index))) as batches:
        for step in range(STEPS):
            for micro, found in enumerate(batches.of_step(step)):
                own = expected(step, index * BATCH // 2 + micro * 2)
                np.testing.assert_array_equal(found.ids, own.ids)
                np.testing.assert_array_equal(found.labels, own.labels)
                assert len(found.dropout_masks) == len(own.dropout_masks) > 0
                for one, two in zip(found.dropout_masks, own.dropout_masks, strict=True):
                    np.testing.assert_array_equal(one, two)


def test_a_run_that_begins_at_a_later_step_has_the_micro_batches_of_that_step() -> None:
    with closing(prepared()) as batches:
        next(batches.of_step(0))
        found = next(batches.of_step(2))
        np.testing.assert_array_equal(found.dropout_masks[1], expected(2, 0).dropout_masks[1])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Steps and first rows of the micro-batches whose masks are drawn, in order."""
    noted: list[tuple[int, int]] = []

    def noting(config: Any, seed: int, step: int, rows: range, *args: Any, **more: Any) -> Any:
        noted.append((step, rows.start))
        return dropout_masks.masks(config, seed, step, rows, *args, **more)

    monkeypatch.setattr(micro_batches, "masks", noting)
    return noted


def test_the_next_micro_batch_is_drawn_while_one_computes_and_no_more(
    drawn: list[tuple[int, int]],
) -> None:
    order = [(step, first) for step in range(STEPS) for first in (0, 2)]
    with closing(prepared()) as batches:
        taken = 0
        for step in range(STEPS):
            for _ in batches.of_step(step):
                taken += 1
                assert drawn == order[: taken + 1]
    assert drawn == order  # nothing beyond the last step


def test_no_more_than_one_micro_batch_is_held_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []
    most = 0

    def noting(*args: Any, **more: Any) -> Iterator[Any]:
        nonlocal most
        gc.collect()
        most = max(most, sum(one() is not None for one in alive))
        found = _Counted(dropout_masks.masks(*args, **more))
        alive.append(weakref.ref(found))
        return found

    monkeypatch.setattr(micro_batches, "masks", noting)
    with closing(prepared()) as batches:
        for step in range(STEPS):
            for micro_batch in batches.of_step(step):
                masks = [weakref.ref(mask) for mask in micro_batch.dropout_masks]
                del micro_batch  # as a training step does before it asks for the next
                assert not any(mask() is not None for mask in masks), "kept while it computes"
    assert most <= 1


class _Counted(Iterator[Any]):
    """Masks that can be referred to weakly."""

    def __init__(self, masks: Iterator[Any]) -> None:
        self._masks = masks

    def __next__(self) -> Any:
        return next(self._masks)


def stopped_after_one(step: int) -> None:
    with closing(prepared()) as batches:
        next(batches.of_step(step))
        raise KeyError


def test_no_thread_is_left_at_the_end_or_at_an_exception(drawn: list[tuple[int, int]]) -> None:
    for step in (0, STEPS - 1):
        with pytest.raises(KeyError):
            stopped_after_one(step)
        assert not workers()
    with closing(prepared()):
        pass
    assert not workers()
    assert len(drawn) == 4


def test_an_error_of_a_thread_is_told_where_its_micro_batch_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any) -> None:  # noqa: ARG001
        raise MemoryError("no room for a mask")

    with closing(prepared()) as batches:
        taken = batches.of_step(0)
        monkeypatch.setattr(dropout_masks, "_fill", fail)
        with pytest.raises(MemoryError, match="no room"):
            next(taken)
    assert not workers()


def test_the_clock_counts_waiting_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = dropout_masks._fill

    def slow(*args: Any) -> None:
        time.sleep(0.002)
        real(*args)

    monkeypatch.setattr(dropout_masks, "_fill", slow)
    clock = Clock()
    with closing(prepared(clock=clock)) as batches:
        for step in range(STEPS):
            for _ in batches.of_step(step):
                waited = clock.seconds["data and dropout masks"]
                time.sleep(0.5)  # computes, longer than drawing takes
    first = dropout_masks.masks(GEOMETRY, 5, 0, range(2), ROWS.length)
    began = time.perf_counter()
    list(first)
    assert waited < time.perf_counter() - began  # of six micro-batches, less than one takes


def test_masks_of_a_pool_are_those_of_one_thread() -> None:
    with ThreadPoolExecutor(2) as pool:
        found = dropout_masks.masks(GEOMETRY, 3, 4, (1, 7), 11, pool=pool)
        own = dropout_masks.masks(GEOMETRY, 3, 4, (1, 7), 11)
        for one, two in zip(found, own, strict=True):
            np.testing.assert_array_equal(one, two)
