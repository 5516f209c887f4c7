"""A batch's outputs in parts and over replicas; over ranks, tests/engine/test_parallel.py."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray

from gpt2dsl.data.rows import Rows
from gpt2dsl.distributed.process_groups import ProcessGroup
from gpt2dsl.engine.evaluate import mean_loss
from gpt2dsl.model.evaluation import ClassScores, TokenLosses
from gpt2dsl.model.forward import Forward, ForwardState, MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.training.batch_outputs import BatchOutputs
from tests.judges import TINY, random_ids, random_weights

IDS, LABELS = random_ids(TINY, 8, 9, seed=1), random_ids(TINY, 8, 9, seed=2)
ALL = np.ones(8, np.bool_)
LABELLED = attrs.evolve(TINY, labels=3)


@pytest.fixture(scope="module")
def network() -> GPT2:
    found = GPT2(TINY)
    found.load(random_weights(TINY))
    return found


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each forward pass has."""
    noted: list[int] = []
    run = Forward.run

    def noting(self: Forward, micro_batch: MicroBatch, *args: object, **more: bool) -> ForwardState:
        noted.append(len(micro_batch.ids))
        return run(self, micro_batch, *args, **more)

    monkeypatch.setattr(Forward, "run", noting)
    return noted


class Replica(BatchOutputs):
    """One of several replicas, which adds the outputs of none but itself."""

    def __init__(self, network: GPT2, rows: int, replica: ProcessGroup) -> None:
        super().__init__(network, rows, attrs.evolve(replica, size=1))
        self._replicas = replica


def over(network: GPT2, replicas: int, rows: int, counts: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The sum of the outputs of several replicas, as their AllReduce gives it."""
    groups = (ProcessGroup(replicas, index) for index in range(replicas))
    outputs = [Replica(network, rows, group).of(IDS, LABELS, counts) for group in groups]
    every: NDArray[np.float32] = np.sum(outputs, axis=0)
    return every


def test_a_batch_at_once_is_as_before(network: GPT2) -> None:
    found = BatchOutputs(network, 8).of(IDS, LABELS, ALL)
    np.testing.assert_array_equal(found, TokenLosses(network).losses(IDS, LABELS))


@pytest.mark.parametrize(("replicas", "rows"), [(1, 2), (1, 1), (2, 4), (2, 2), (4, 1)])
def test_outputs_depend_on_neither_parts_nor_replicas(
    network: GPT2, computed: list[int], replicas: int, rows: int
) -> None:
    found = over(network, replicas, rows, ALL)
    assert computed == [rows] * (8 // rows)  # each row once, by one replica
    np.testing.assert_allclose(found, TokenLosses(network).losses(IDS, LABELS), rtol=1e-5)


@pytest.mark.parametrize("real", [1, 3, 5])
def test_rows_of_padding_are_not_computed(network: GPT2, computed: list[int], real: int) -> None:
    counts = np.arange(8) < real
    found = over(network, 4, 1, counts)  # fewer rows than replicas, too
    assert computed == [1] * real
    assert not found[real:].any()
    np.testing.assert_allclose(
        found[:real], TokenLosses(network).losses(IDS[:real], LABELS[:real]), rtol=1e-5
    )


def test_class_scores_come_in_parts_too(computed: list[int]) -> None:
    network = GPT2(LABELLED)
    network.load(random_weights(LABELLED))
    last = np.arange(8, dtype=np.int32)
    found = BatchOutputs(network, 2).of(IDS, last, ALL)
    assert computed == [2] * 4
    np.testing.assert_allclose(found, ClassScores(network).logits(IDS, last), atol=1e-6)


class Known(BatchOutputs):
    """Losses that are known, whatever computes them."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def of(
        self, ids: NDArray[np.int32], targets: NDArray[np.int32], counts: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        self.seen.append(tuple(counts.nonzero()[0]))
        losses: NDArray[np.float32] = np.sqrt(ids + targets / 3).astype(np.float32)
        return losses


@pytest.mark.parametrize("tokens", [2, 33, 36, 8 * 9 + 1, 100])
def test_each_token_counts_once_in_sums_over_whole_batches(tokens: int) -> None:
    rows, known = Rows(np.arange(tokens, dtype=np.int32), 9), Known()
    measured = mean_loss(known, rows, 4)
    assert measured is not None
    loss, count = measured
    assert count == tokens - 1
    assert sum(map(len, known.seen)) == -(-(tokens - 1) // 9)
    assert loss == sum(sums(rows)) / count  # to the bit, as one process has always added them


def sums(rows: Rows) -> Iterator[float]:
    for ids, labels, mask in rows.evaluation_batches(4):
        losses = np.sqrt(ids + labels / 3).astype(np.float32)
        yield float((losses.astype("float64") * mask).sum())
