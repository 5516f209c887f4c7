"""The classification head: a linear over the last real token, as GPT2ForSequenceClassification."""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.layout.tensors import SCORE
from gpt2dsl.model.network import GPT2


class ClassLogits(nn.Cell):
    """Rows to the scores of their classes.

    Rows are padded on the right: no token sees what comes after it, so that no mask is needed.
    """

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.score = network.by_name[SCORE]
        self.gather = P.Gather()
        self.product_bt = P.MatMul(transpose_b=True)

    def construct(self, ids: Tensor, last: Tensor, *kept: Tensor) -> Tensor:
        """``[b, t], [b] → [b, labels]``; ``last``: the place of each row's last real token."""
        batch, time = ids.shape[:2]
        x = self.network(ids, *kept)  # [b t, h]
        places = ms.ops.arange(batch).astype(ms.int32) * time + last  # [b]
        return self.product_bt(self.gather(x, places, 0), self.score)  # [b, h] [labels, h]ᵀ

    def logits(self, ids: NDArray[np.int32], last: NDArray[np.int32]) -> NDArray[np.float32]:
        """``[b, t], [b] → [b, labels]``."""
        found: NDArray[np.float32] = self(Tensor(ids), Tensor(last)).asnumpy()
        return found


class ClassLoss(nn.Cell):
    """Mean cross-entropy of a batch's rows."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.logits_of = ClassLogits(network)
        self.log_softmax = P.LogSoftmax(-1)
        self.pick = P.GatherD()
        self.split = P.Split(1, 2)

    def construct(self, ids: Tensor, labels: Tensor, *kept: Tensor) -> Tensor:
        """``[b, t], [b, 2] → []``; ``labels``: class and place of the last real token."""
        classes, last = self.split(labels)  # 2 x [b, 1]
        logits = self.logits_of(ids, last.reshape((-1,)), *kept)
        return -self.pick(self.log_softmax(logits), 1, classes).mean()
