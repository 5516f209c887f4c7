"""Language-model head and its cross-entropy."""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Tensor, nn

from gpt2dsl.distributed.collectives import AllGather, local_vocab_ids
from gpt2dsl.distributed.process_groups import NO_TENSOR_PARALLEL, TensorParallelGroup
from gpt2dsl.kernels.mixed_precision import MixedPrecision
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.precision import FLOAT32, PrecisionPolicy

MASKED = -1e9
"""Bias on the logits of padded vocabulary rows, so that their probability is exactly 0."""


class Logits(nn.Cell):
    """Logits ``x tableᵀ``; padded rows of the table get probability 0.

    If the table is sharded, these are the logits of this rank's rows.
    """

    def __init__(
        self,
        vocab: int,
        padded_vocab: int,
        precision: PrecisionPolicy = FLOAT32,
        group: TensorParallelGroup = NO_TENSOR_PARALLEL,
    ) -> None:
        super().__init__()
        self.precision = MixedPrecision(precision)
        self.product_bt = P.MatMul(transpose_b=True)
        self.add_bias = P.BiasAdd()
        bias = np.zeros(padded_vocab, np.float32)
        bias[vocab:] = MASKED
        bias = np.split(bias, group.size)[group.index]
        self.is_padded = bool(bias.any())
        self.bias = Tensor(bias)

    def construct(self, x: Tensor, table: Tensor) -> Tensor:
        """``[rows, hidden] x [padded_vocab, hidden] → [rows, padded_vocab]``."""
        precision = self.precision
        logits = precision.wide(self.product_bt(precision.narrow(x), precision.factor(table)))
        if self.is_padded:
            logits = self.add_bias(logits, self.bias)
        return logits


class GatheredLogits(nn.Cell):
    """Logits all-gathered over the ranks that share the table."""

    def __init__(self, logits: Logits, group: TensorParallelGroup) -> None:
        super().__init__()
        self.logits, self.joined = logits, AllGather(group, 1)

    def construct(self, x: Tensor, table: Tensor) -> Tensor:
        """``[rows, hidden] x [padded_vocab / mp, hidden] → [rows, padded_vocab]``."""
        return self.joined(self.logits(x, table))


def lm_head(config: GPT2Config, precision: PrecisionPolicy, group: TensorParallelGroup) -> nn.Cell:
    """Return the cell that computes ``x tableᵀ`` over the whole, possibly sharded, table."""
    logits = Logits(config.vocab, config.padded_vocab, precision, group)
    return GatheredLogits(logits, group) if group.size > 1 else logits


def linear_cross_entropy(
    config: GPT2Config, precision: PrecisionPolicy, group: TensorParallelGroup
) -> nn.Cell:
    """Return the cell that computes each token's loss, and the tensor its gradient needs."""
    if group.size > 1:
        return VocabParallelCrossEntropy(config, precision, group)
    return LinearCrossEntropy(config.vocab, config.padded_vocab, precision)


class _HeadGradient(nn.Cell):
    """Backward pass from the logits to the hidden states and the table.

    Args:
        logits: the cell whose gradient it is; each loss below scales it per row.
    """

    def __init__(self, logits: Logits) -> None:
        super().__init__()
        self.logits, self.precision = logits, logits.precision
        self.pick, self.scatter_add = P.GatherD(), P.TensorScatterAdd()
        self.product, self.product_at = P.MatMul(), P.MatMul(transpose_a=True)
        self.zeros, self.concat = P.Zeros(), P.Concat(1)

    def minus_label(self, probabilities: Tensor, labels: Tensor, ones: Tensor) -> Tensor:
        """Return ``p - onehot``: ``[rows, v], [rows, 1], [rows] → [rows, v]``."""
        rows = labels.shape[0]
        order = ms.ops.arange(rows).reshape((rows, 1)).astype(ms.int32)
        return self.scatter_add(probabilities, self.concat((order, labels)), -ones)

    def back(
        self, x: Tensor, table: Tensor, error: Tensor, per_row: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return ``dx = error table`` and ``dtable = errorᵀ x``, scaled per row."""
        precision = self.precision
        error = precision.narrow(error)
        dx = precision.wide(self.product(error, precision.factor(table))) * per_row
        return dx, precision.wide(self.product_at(error, precision.narrow(x * per_row)))


class LinearCrossEntropy(_HeadGradient):
    """Fused head and cross-entropy of each token, ``-log softmax(x tableᵀ)[label]``.

    Why: fused, head and loss materialise the logits once. The gradient's per-row factor is applied
    to ``[rows, hidden]`` instead of ``[rows, vocab]``, and the one-hot label is scattered;
    ops.cross_entropy takes 10 times as long.
    """

    def __init__(self, vocab: int, padded_vocab: int, precision: PrecisionPolicy = FLOAT32) -> None:
        super().__init__(Logits(vocab, padded_vocab, precision))
        self.log_softmax, self.softmax = P.LogSoftmax(-1), P.Softmax(-1)
        self.ones = P.Ones()

    def construct(self, x: Tensor, table: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """``[rows, hidden], [padded_vocab, hidden], [rows, 1] → [rows, 1], [rows, padded_vocab]``.

        The second result, the logits, is for the gradient only.
        """
        logits = self.logits(x, table)
        return -self.pick(self.log_softmax(logits), 1, labels), logits

    def bprop(
        self,
        x: Tensor,
        table: Tensor,
        labels: Tensor,
        out: tuple[Tensor, Tensor],
        dout: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``dlogits = (p - onehot) dy``."""
        ones = self.ones((x.shape[0],), ms.float32)
        error = self.minus_label(self.softmax(out[1]), labels, ones)  # [rows, padded_vocab]
        dx, dtable = self.back(x, table, error, dout[0])
        return dx, dtable, self.zeros(labels.shape, ms.int32)


class VocabParallelCrossEntropy(_HeadGradient):
    """Vocabulary-parallel ``LinearCrossEntropy``: the table is sharded by rows, logits stay local.

    Ranks all-reduce three precision per token (largest logit, sum of exponentials, label's logit)
    and, in the backward pass, the gradient of ``x`` (Shoeybi et al. 2019, section 3).
    """

    def __init__(
        self, config: GPT2Config, precision: PrecisionPolicy, group: TensorParallelGroup
    ) -> None:
        super().__init__(Logits(config.vocab, config.padded_vocab, precision, group))
        self.count = config.padded_vocab // group.size
        self.first = self.count * group.index
        self.joined, self.sum = AllGather(group, 1), P.AllReduce(group=group.name)
        self.largest, self.total = P.ReduceMax(keep_dims=True), P.ReduceSum(keep_dims=True)
        self.exp, self.log = P.Exp(), P.Log()

    def construct(self, x: Tensor, table: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """``[rows, hidden], [v / mp, hidden], [rows, 1] → [rows, 1], [rows, v / mp]``.

        The second result, the probabilities, is for the gradient only.
        """
        logits = self.logits(x, table)  # [rows, v / mp]
        logits = logits - self.largest(self.joined(self.largest(logits, 1)), 1)
        exponentials = self.exp(logits)
        total = self.sum(self.total(exponentials, 1))  # [rows, 1]
        row, inside = local_vocab_ids(labels, self.first, self.count)
        of_label = self.sum(self.pick(logits, 1, row) * inside)  # [rows, 1]
        return self.log(total) - of_label, exponentials / total

    def bprop(
        self,
        x: Tensor,
        table: Tensor,
        labels: Tensor,
        out: tuple[Tensor, Tensor],
        dout: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``dlogits = (p - onehot) dy``; ``dx`` is all-reduced over the ranks."""
        row, inside = local_vocab_ids(labels, self.first, self.count)
        error = self.minus_label(out[1], row, inside.reshape((-1,)))  # [rows, v / mp]
        dx, dtable = self.back(x, table, error, dout[0])
        return self.sum(dx), dtable, self.zeros(labels.shape, ms.int32)
