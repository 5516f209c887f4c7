"""Gradients of a network, for tests that compare them."""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import ParameterTuple, Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.model.network import GPT2
from gpt2dsl.model.training import MeanLoss, MicroBatch


class Gradients(nn.Cell):
    """Of every trained parameter.

    It is a cell: what ``value_and_grad`` gives, called by itself, computes with old parameters
    after ``set_data``.
    """

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.names, weights = zip(*network.trained().items(), strict=True)
        self.function = ms.value_and_grad(MeanLoss(network), None, ParameterTuple(list(weights)))

    def construct(self, ids: Tensor, labels: Tensor, *kept: Tensor) -> Any:
        """``[b, t], [b, t]`` → loss and gradients."""
        return self.function(ids, labels, *kept)

    def of(self, part: MicroBatch) -> dict[str, NDArray[Any]]:
        """By name."""
        _, values = self(*part.tensors)
        return {
            name: value.asnumpy().copy() for name, value in zip(self.names, values, strict=True)
        }
