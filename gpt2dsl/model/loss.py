"""Training losses, from the output of the last block.

Like a block, they take their parameters as arguments. Letters in shapes are those of
gpt2.py.
"""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn

from gpt2dsl.kernels.lm_head import linear_cross_entropy
from gpt2dsl.layout.config import MULTI_LABEL, REGRESSION
from gpt2dsl.layout.params import LN_F, SCORE, head_of
from gpt2dsl.model.classification import ClassHead
from gpt2dsl.model.gpt2 import GPT2


class LanguageModelLoss(nn.Cell):
    """Scaled mean cross-entropy over a batch's tokens; 0 for tokens with a negative label."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.names = (*LN_F, head_of(network.config))
        self.head = linear_cross_entropy(network.config, network.precision, network.tensor_group)
        self.relu = P.ReLU()

    def construct(
        self, x: Tensor, labels: Tensor, scale: Tensor, g: Tensor, b: Tensor, table: Tensor
    ) -> Tensor:
        """``[rows, h], [rows], [], [h], [h], [v, h] → []``."""
        x = self.network.final_norm(x, g, b)
        labels = labels.reshape((-1, 1))
        losses, _ = self.head(x, table, self.relu(labels))
        return (losses * (labels >= 0).astype(ms.float32)).mean() * scale


class ClassificationLoss(nn.Cell):
    """Scaled mean cross-entropy over a batch's rows."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.head = network, ClassHead()
        self.names = (*LN_F, SCORE)
        self.log_softmax, self.pick = P.LogSoftmax(-1), P.GatherD()
        self.split = P.Split(1, 2)

    def construct(
        self, x: Tensor, labels: Tensor, scale: Tensor, g: Tensor, b: Tensor, score: Tensor
    ) -> Tensor:
        """``[b t, h], [b, 2], [], [h], [h], [classes, h] → []``.

        ``labels``: class and index of the last real token.
        """
        x = self.network.final_norm(x, g, b)
        classes, last = self.split(labels)  # 2 x [b, 1]
        logits = self.head(x, last.reshape((-1,)), score)
        return -self.pick(self.log_softmax(logits), 1, classes).mean() * scale


class RegressionLoss(nn.Cell):
    """Scaled mean squared error over a batch's rows."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.head = network, ClassHead()
        self.names = (*LN_F, SCORE)
        self.split = P.Split(1, 2)

    def construct(
        self, x: Tensor, labels: Tensor, scale: Tensor, g: Tensor, b: Tensor, score: Tensor
    ) -> Tensor:
        """``[b t, h], [b, 2], [], [h], [h], [1, h] → []``.

        ``labels``: target value and index of the last real token, both float32.
        """
        x = self.network.final_norm(x, g, b)
        numbers, last = self.split(labels)  # 2 x [b, 1]
        error = self.head(x, last.reshape((-1,)).astype(ms.int32), score) - numbers
        return (error * error).mean() * scale


Loss = LanguageModelLoss | ClassificationLoss | RegressionLoss


def training_loss(network: GPT2) -> Loss:
    """Return the training loss of a network.

    Raises:
        NotImplementedError: the head is for multi-label classification.
    """
    config = network.config
    if not config.labels:
        return LanguageModelLoss(network)
    if config.problem == MULTI_LABEL:
        raise NotImplementedError(config.problem)
    return RegressionLoss(network) if config.problem == REGRESSION else ClassificationLoss(network)
