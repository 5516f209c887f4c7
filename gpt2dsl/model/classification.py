"""Classification head on the last real token, as in GPT2ForSequenceClassification."""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn


class ClassHead(nn.Cell):
    """Class scores from the hidden state of each row's last token."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.gather = P.Gather()
        self.product_bt = P.MatMul(transpose_b=True)

    def construct(self, x: Tensor, last: Tensor, score: Tensor) -> Tensor:
        """``[b t, h], [b], [labels, h] → [b, labels]``; ``last``: index of the last token."""
        batch = last.shape[0]
        time = x.shape[0] // batch
        rows = ms.ops.arange(batch).astype(ms.int32) * time + last  # [b]
        return self.product_bt(self.gather(x, rows, 0), score)  # [b, h] [labels, h]ᵀ
