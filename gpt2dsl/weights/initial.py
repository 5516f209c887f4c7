"""Initialisation of weights as in GPT-2's paper, without MindSpore."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec
from gpt2dsl.layout.params import param_specs
from gpt2dsl.weights.files.lazy_tensor import AT_ONCE, LazyTensor, Whole
from gpt2dsl.weights.network_weights import Weights

DEVIATION = 0.02
"""Radford et al. 2018, section 4.1."""

RESIDUAL = ("attn.c_proj.weight", "mlp.c_proj.weight")
"""Projections onto the residual stream, scaled by 1 / sqrt(2 layers) (Radford et al. 2019, 2.3)."""


def initial(geometry: GPT2Config, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return new weights by name; each tensor depends only on the seed and its name."""
    shapes = {tensor.name: tensor.shape for tensor in param_specs(geometry)}
    with ThreadPoolExecutor(AT_ONCE) as pool:  # NumPy releases the GIL while it draws
        values = pool.map(lambda name: _values(name, shapes[name], geometry, seed), shapes)
        return dict(zip(shapes, values, strict=True))


def initial_adapters(adapters: Sequence[LoRASpec], seed: int) -> dict[str, NDArray[np.float32]]:
    """Return new LoRA adapters by name, initialised as in PEFT and MindPet: B is zero.

    A is uniform within ``1 / sqrt(in)``, He's bound for a slope of sqrt(5).
    """
    arrays = {}
    for adapter in adapters:
        for name, shape in adapter.shapes.items():
            bound = np.float32(1 / math.sqrt(adapter.inputs)) if name.endswith("lora_A") else 0
            uniform = _random(name, seed).random(shape, np.float32)
            arrays[name] = (2 * uniform - 1) * np.float32(bound)
    return arrays


@attrs.frozen(eq=False)
class _New(Whole):
    """A new tensor, initialised on access."""

    name: str
    geometry: GPT2Config
    seed: int

    def make(self) -> NDArray[np.float32]:
        """Return its values."""
        return _values(self.name, self.shape, self.geometry, self.seed)


def filled(
    weights: Weights, seed: int, geometry: GPT2Config | None = None
) -> dict[str, LazyTensor]:
    """Return the tensors of weights, with new ones in place of those missing.

    ``geometry`` may have a classification head that the weights lack; without it, it is their own.
    """
    network = geometry or weights.geometry
    shapes = {tensor.name: tensor.shape for tensor in param_specs(network)}
    return {
        name: weights.tensors.get(name) or _New("F32", shape, name, network, seed)
        for name, shape in shapes.items()
    }


def _values(
    name: str, shape: tuple[int, ...], geometry: GPT2Config, seed: int
) -> NDArray[np.float32]:
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    deviation = DEVIATION
    if name.endswith(RESIDUAL):
        deviation /= math.sqrt(2 * geometry.layers)
    values = _random(name, seed).standard_normal(shape, np.float32)
    values *= np.float32(deviation)
    return values


def _random(name: str, seed: int) -> np.random.Generator:
    """Return a tensor's own random generator."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))
