"""Gradients of a network, for tests that compare them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.training import gradients
from gpt2dsl.training.step import OneStage


class Gradients:
    """Of every trained parameter."""

    def __init__(self, network: GPT2) -> None:
        self._batch = OneStage(network)

    def of(self, part: MicroBatch) -> dict[str, NDArray[Any]]:
        """By name."""
        found = gradients.Gradients()
        self._batch.run([part], 1.0, found)
        return {name: value.asnumpy().copy() for name, value in found.sums.items()}
