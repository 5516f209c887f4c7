"""Evaluation of rows: token losses and class scores, without dropout and gradients."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.backend import device
from gpt2dsl.kernels.lm_head import linear_cross_entropy
from gpt2dsl.layout.params import SCORE, head_of
from gpt2dsl.model.classification import ClassHead
from gpt2dsl.model.forward import Forward, MicroBatch, NetworkGraph
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.model.loss_chunks import LossChunks

Ids = NDArray[np.int32]


class Losses(Protocol):
    """Interface of a computation of per-token losses."""

    def losses(self, ids: Ids, labels: Ids) -> NDArray[np.float32]:
        """Return the loss of each token in nats: ``[b, t], [b, t] → [b, t]``."""


class TokenLosses:
    """Cross-entropy of each token."""

    def __init__(self, network: GPT2) -> None:
        self._forward, self._head = Forward(network), _TokenHead(network)
        self._shard = network.shard
        self._weights = (network.g, network.b, network.by_name[head_of(network.geometry)])

    @device.turn()
    def losses(self, ids: Ids, labels: Ids, x: Tensor | None = None) -> NDArray[np.float32]:
        """Return the loss of each token in nats: ``[b, t], [b, t] → [b, t]``.

        ``x``: ``[b t, h]`` from the previous pipeline stage, if there is one.
        """
        state = self._forward.walk(MicroBatch(ids, labels), x, remembers=False)
        chunks = LossChunks(labels.size, self._shard)
        chunk_losses = [
            self._head(x, Tensor(chunk_labels), *self._weights)[0].asnumpy()
            for x, chunk_labels in zip(chunks.rows(state.x), chunks.labels(labels), strict=True)
        ]
        return chunks.joined_losses(chunk_losses).reshape(labels.shape)


class ClassScores:
    """Class scores of each row."""

    def __init__(self, network: GPT2) -> None:
        self._forward, self._head = Forward(network), _ClassHead(network)
        self._weights = (network.g, network.b, network.by_name[SCORE])

    @device.turn()
    def logits(self, ids: Ids, last: Ids) -> NDArray[np.float32]:
        """Return class scores: ``[b, t], [b] → [b, labels]``.

        ``last``: index of each row's last real token.
        """
        state = self._forward.walk(MicroBatch(ids, ids), remembers=False)
        return np.array(self._head(state.x, Tensor(last), *self._weights).asnumpy())


class _TokenHead(NetworkGraph):
    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.network = network
        self.head = linear_cross_entropy(network.geometry, network.precision, network.shard)

    def construct(
        self, x: Tensor, labels: Tensor, g: Tensor, b: Tensor, table: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``[rows, h], [rows], [h], [h], [v, h] → [rows]``, padding."""
        x = self.network.normal(x, g, b)
        losses, _ = self.head(x, table, labels.reshape((-1, 1)))
        return losses.reshape(labels.shape), self.padding(x, 100)


class _ClassHead(NetworkGraph):
    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.network, self.head = network, ClassHead()

    def construct(self, x: Tensor, last: Tensor, g: Tensor, b: Tensor, score: Tensor) -> Tensor:
        """``[b t, h], [b], [h], [h], [labels, h] → [b, labels]``."""
        x = self.network.normal(x, g, b)
        return self.head(x, last, score)
