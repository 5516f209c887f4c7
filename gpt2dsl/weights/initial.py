"""Initialisation of weights as in GPT-2's paper, without MindSpore."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec
from gpt2dsl.layout.params import param_specs
from gpt2dsl.weights.files.lazy_tensor import Array, LazyTensor, Whole
from gpt2dsl.weights.network_weights import Weights

DEVIATION = 0.02
"""Radford et al. 2018, section 4.1."""

RESIDUAL = ("attn.c_proj.weight", "mlp.c_proj.weight")
"""Projections onto the residual stream, scaled by 1 / sqrt(2 layers) (Radford et al. 2019, 2.3)."""


@attrs.frozen(eq=False)
class _NewTensor(Whole):
    """A new tensor of the network, drawn when it is read; it depends only on seed and name."""

    name: str
    layers: int
    seed: int

    def make(self) -> NDArray[np.float32]:
        """Draw the tensor."""
        if self.name.endswith(".bias"):
            return np.zeros(self.shape, np.float32)
        if len(self.shape) == 1:
            return np.ones(self.shape, np.float32)
        deviation = DEVIATION
        if self.name.endswith(RESIDUAL):
            deviation /= math.sqrt(2 * self.layers)
        values: Array = _random(self.name, self.seed).standard_normal(self.shape, np.float32)
        values *= np.float32(deviation)
        return values


@attrs.frozen(eq=False)
class _NewAdapter(Whole):
    """A new matrix of a LoRA adapter, drawn when it is read."""

    name: str
    inputs: int
    seed: int

    def make(self) -> NDArray[np.float32]:
        """Draw the matrix: A is uniform within He's bound for a slope of sqrt(5), B is zero."""
        bound = np.float32(1 / math.sqrt(self.inputs)) if self.name.endswith("lora_A") else 0
        uniform: Array = _random(self.name, self.seed).random(self.shape, np.float32)
        uniform = 2 * uniform - 1
        uniform *= np.float32(bound)
        return uniform


def initial(geometry: GPT2Config, seed: int) -> dict[str, LazyTensor]:
    """Return new weights by name, each drawn when it is read."""
    return {
        tensor.name: _NewTensor("F32", tensor.shape, tensor.name, geometry.layers, seed)
        for tensor in param_specs(geometry)
    }


def initial_adapters(adapters: Sequence[LoRASpec], seed: int) -> dict[str, LazyTensor]:
    """Return new LoRA adapters by name, initialised as in PEFT and MindPet."""
    return {
        name: _NewAdapter("F32", shape, name, adapter.inputs, seed)
        for adapter in adapters
        for name, shape in adapter.shapes.items()
    }


def filled(
    weights: Weights, seed: int, geometry: GPT2Config | None = None
) -> dict[str, LazyTensor]:
    """Return the tensors of weights, with new ones in place of those missing.

    ``geometry`` may have a classification head that the weights lack; without it, it is their own.
    """
    new = initial(geometry or weights.geometry, seed)
    return {name: weights.tensors.get(name, tensor) for name, tensor in new.items()}


def _random(name: str, seed: int) -> np.random.Generator:
    """Return a tensor's own random generator."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))
