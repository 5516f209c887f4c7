"""Evaluation of rows, without dropout and gradients: token losses, class scores, logits.

Letters in shapes are those of gpt2.py.
"""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.backend import device
from gpt2dsl.kernels.lm_head import linear_cross_entropy
from gpt2dsl.model.classification import ClassHead
from gpt2dsl.model.forward import Forward, MicroBatch, NetworkGraph
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.model.loss_chunks import LossChunks

Ids = NDArray[np.int32]

LENGTH_MULTIPLE = 64
"""Sequence lengths outside training are rounded up to a multiple of this: few graphs to compile."""


class TokenLosses:
    """Cross-entropy of each token."""

    def __init__(self, network: GPT2) -> None:
        self._forward, self._head = Forward(network), _TokenHead(network)
        self._group = network.tensor_group
        self._weights = (network.g, network.b, network.head_weight)

    @device.turn()
    def losses(self, ids: Ids, labels: Ids, x: Tensor | None = None) -> NDArray[np.float32]:
        """Return the loss of each token in nats: ``[b, t], [b, t] → [b, t]``.

        ``x``: ``[b t, h]`` from the previous pipeline stage, if there is one.
        """
        state = self._forward.run(MicroBatch(ids, labels), x, saves=False)
        chunks = LossChunks(labels.size, self._group)
        chunk_losses = [
            self._head(x, Tensor(chunk_labels), *self._weights)[0].asnumpy()
            for x, chunk_labels in zip(chunks.rows(state.x), chunks.labels(labels), strict=True)
        ]
        return chunks.join_losses(chunk_losses).reshape(labels.shape)


class ClassScores:
    """Class scores of each row."""

    def __init__(self, network: GPT2) -> None:
        self._forward, self._head = Forward(network), _ClassHead(network)
        self._weights = (network.g, network.b, network.head_weight)

    @device.turn()
    def logits(self, ids: Ids, last: Ids, x: Tensor | None = None) -> NDArray[np.float32]:
        """Return class scores: ``[b, t], [b] → [b, labels]``.

        ``last``: index of each row's last real token; ``x`` as for ``TokenLosses``.
        """
        state = self._forward.run(MicroBatch(ids, ids), x, saves=False)
        return np.array(self._head(state.x, Tensor(last), *self._weights).asnumpy())


class _TokenHead(NetworkGraph):
    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.network = network
        self.head = linear_cross_entropy(network.config, network.precision, network.tensor_group)

    def construct(
        self, x: Tensor, labels: Tensor, g: Tensor, b: Tensor, table: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``[rows, h], [rows], [h], [h], [v, h] → [rows]``, padding."""
        x = self.network.final_norm(x, g, b)
        losses, _ = self.head(x, table, labels.reshape((-1, 1)))
        return losses.reshape(labels.shape), self.padding(x, 100)


class _ClassHead(NetworkGraph):
    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.network, self.head = network, ClassHead()

    def construct(self, x: Tensor, last: Tensor, g: Tensor, b: Tensor, score: Tensor) -> Tensor:
        """``[b t, h], [b], [h], [h], [labels, h] → [b, labels]``."""
        x = self.network.final_norm(x, g, b)
        return self.head(x, last, score)


class TokenLogits(nn.Cell):
    """Graph from token ids to the logits of every token."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, ids: Tensor) -> Tensor:
        """Return logits: ``[b, t] → [b t, v]``."""
        x, _ = self.network(ids)
        return self.network.logits(x)

    @device.turn()
    def logits(self, ids: Ids) -> NDArray[np.float32]:
        """Return logits: ``[b, t] → [b, t, vocab]``.

        Rows are padded on the right to one of a few lengths, each compiled once; attention is
        causal, so padding changes nothing.
        """
        batch, time = ids.shape
        config = self.network.config
        padded = np.zeros((batch, min(padded_length(time), config.positions)), np.int32)
        padded[:, :time] = ids
        flat_logits: NDArray[np.float32] = self(Tensor(padded)).asnumpy()
        return flat_logits.reshape((*padded.shape, -1))[:, :time, : config.vocab]


def padded_length(length: int) -> int:
    """Return the compiled length: ``length`` rounded up to a multiple of ``LENGTH_MULTIPLE``."""
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
