"""Losses and gradients where the logits of some tokens are found at a time."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.distributed.process_groups import TensorParallelGroup
from gpt2dsl.layout import loss_chunks
from gpt2dsl.model.evaluation import TokenLosses
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.model.loss_chunks import LossChunks
from gpt2dsl.parts import Optim
from gpt2dsl.training.step import TrainStep
from tests.judges import TINY, random_ids, random_weights
from tests.training.gradients import Gradients

IDS, LABELS = random_ids(TINY, 4, 9, seed=1), random_ids(TINY, 4, 9, seed=2)
"""36 tokens."""


@pytest.fixture
def in_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_chunks, "MOST", 10)
    monkeypatch.setattr(loss_chunks, "LEAST", 4)
    assert loss_chunks.chunk_count(IDS.size) == 4


def network() -> GPT2:
    found = GPT2(TINY)
    found.load(random_weights(TINY))
    return found


@attrs.frozen
class Found:
    """What a batch gives."""

    step: tuple[float, float]
    gradients: dict[str, NDArray[np.float32]]
    losses: NDArray[np.float32]

    @classmethod
    def now(cls) -> Found:
        part = MicroBatch(IDS, LABELS)
        return cls(
            step=TrainStep(network(), Optim().settings()).step([part], 1e-3),
            gradients=Gradients(network()).of(part),
            losses=TokenLosses(network()).losses(IDS, LABELS),
        )


@pytest.fixture(scope="module")
def whole() -> Found:
    return Found.now()


@pytest.mark.usefixtures("in_four")
def test_a_batch_in_portions_is_the_whole_batch(whole: Found) -> None:
    found = Found.now()
    assert found.step == pytest.approx(whole.step, rel=1e-6)
    np.testing.assert_allclose(found.losses, whole.losses, rtol=1e-5)
    assert found.gradients.keys() == whole.gradients.keys()
    for name, gradient in found.gradients.items():
        expected = whole.gradients[name]
        np.testing.assert_allclose(gradient, expected, atol=1e-6, rtol=1e-5, err_msg=name)


@pytest.mark.usefixtures("in_four")
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_portion_has_the_labels_of_the_rows_that_ranks_bring_together(ranks: int) -> None:
    group = TensorParallelGroup(ranks, name="g", sequence_parallel=ranks > 1)
    taken = LossChunks(IDS.size, group)
    tokens = np.arange(IDS.size, dtype=np.int32).reshape(IDS.shape)
    of_ranks = np.split(tokens.reshape(-1, 1).astype(np.float32), ranks)
    cut = [[one.asnumpy() for one in taken.rows(Tensor(own))] for own in of_ranks]
    labels = taken.labels(tokens)
    for i, portion in enumerate(labels):
        np.testing.assert_array_equal(np.concatenate([rows[i] for rows in cut])[:, 0], portion)
    found = taken.join_losses([portion.astype(np.float32) for portion in labels])
    np.testing.assert_array_equal(found, tokens.reshape(-1))
