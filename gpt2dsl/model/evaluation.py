"""The loss of every token, without dropout and without gradients."""

from __future__ import annotations

from typing import Protocol

import mindspore as ms
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.layout.tensors import TABLE
from gpt2dsl.model.graphs import Graph
from gpt2dsl.model.network import GPT2
from gpt2dsl.model.operators.head import head_loss


class Losses(Protocol):
    """What finds the loss of every token."""

    def losses(self, ids: NDArray[np.int32], labels: NDArray[np.int32]) -> NDArray[np.float32]:
        """``[b, t], [b, t] → [b, t]``, nats."""


class TokenLosses(Graph):
    """Cross-entropy of each token."""

    def __init__(self, network: GPT2) -> None:
        alone = network.shard.mp == network.stages.pp == 1
        super().__init__(*network.signature, is_kept=alone)
        self.network = network
        self.table = network.by_name[TABLE]
        self.head = head_loss(network.geometry, network.precision, network.shard)

    def construct(self, ids: Tensor, labels: Tensor) -> Tensor:
        """``[b, t], [b, t] → [b, t]``; of a pipeline's last stage the first is ``[b, t, h]``."""
        losses, _ = self.head(self.network(ids), self.table, labels.reshape((-1, 1)))
        return losses.reshape(labels.shape)

    def losses(self, ids: NDArray[np.int32], labels: NDArray[np.int32]) -> NDArray[np.float32]:
        """``[b, t], [b, t] → [b, t]``, nats."""
        found: NDArray[np.float32] = self(Tensor(ids, ms.int32), Tensor(labels, ms.int32)).asnumpy()
        return found
