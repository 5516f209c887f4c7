"""New weights, as GPT-2's paper says; no MindSpore."""

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
from gpt2dsl.weights.reading import Weights

DEVIATION = 0.02
"""Radford et al. 2018, section 4.1."""

RESIDUAL = ("attn.c_proj.weight", "mlp.c_proj.weight")
"""Projections onto the residual stream; divided by sqrt(2 layers) (Radford et al. 2019, 2.3)."""


def initial(geometry: GPT2Config, seed: int) -> dict[str, NDArray[np.float32]]:
    """Name → values of new weights. Each tensor's depend on the seed and its name alone."""
    shapes = {tensor.name: tensor.shape for tensor in param_specs(geometry)}
    with ThreadPoolExecutor(AT_ONCE) as pool:  # NumPy lets others work while it draws
        made = pool.map(lambda name: _values(name, shapes[name], geometry, seed), shapes)
        return dict(zip(shapes, made, strict=True))


def initial_adapters(adapters: Sequence[LoRASpec], seed: int) -> dict[str, NDArray[np.float32]]:
    """Return the name → values of new adapters, as PEFT and MindPet have them: B is zero.

    A is uniform within ``1 / sqrt(in)``, which is He's bound for a slope of sqrt(5).
    """
    found = {}
    for one in adapters:
        for name, shape in one.shapes.items():
            bound = np.float32(1 / math.sqrt(one.inputs)) if name.endswith("lora_A") else 0
            uniform = _random(name, seed).random(shape, np.float32)
            found[name] = (2 * uniform - 1) * np.float32(bound)
    return found


@attrs.frozen(eq=False)
class _New(Whole):
    """A new tensor, made when it is asked for."""

    name: str
    geometry: GPT2Config
    seed: int

    def make(self) -> NDArray[np.float32]:
        """Return its values."""
        return _values(self.name, self.shape, self.geometry, self.seed)


def filled(
    weights: Weights, seed: int, geometry: GPT2Config | None = None
) -> dict[str, LazyTensor]:
    """Return the tensors of weights, with new ones for those that they may lack.

    Args:
        weights: as they were read.
        seed: of new values.
        geometry: the network that they are for, which may have a classification head that they
            lack; their own where it is not said.
    """
    wanted = geometry or weights.geometry
    shapes = {tensor.name: tensor.shape for tensor in param_specs(wanted)}
    return {
        name: weights.tensors.get(name) or _New("F32", shape, name, wanted, seed)
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
    """Return a stream of a tensor's own."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))
