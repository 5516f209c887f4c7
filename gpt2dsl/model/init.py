"""New weights, as GPT-2's paper says; no MindSpore."""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.layout.tensors import tensors

DEVIATION = 0.02
"""Radford et al. 2018, section 4.1."""

RESIDUAL = ("attn.c_proj.weight", "mlp.c_proj.weight")
"""Projections onto the residual stream; divided by sqrt(2 layers) (Radford et al. 2019, 2.3)."""


def initial(geometry: Geometry, seed: int) -> dict[str, NDArray[np.float32]]:
    """Name → values of new weights. Each tensor's depend on the seed and its name alone."""
    return {
        tensor.name: _values(tensor.name, tensor.shape, geometry, seed)
        for tensor in tensors(geometry)
    }


def _values(
    name: str, shape: tuple[int, ...], geometry: Geometry, seed: int
) -> NDArray[np.float32]:
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    deviation = DEVIATION
    if name.endswith(RESIDUAL):
        deviation /= math.sqrt(2 * geometry.layers)
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    random = np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))
    return random.standard_normal(shape, np.float32) * np.float32(deviation)
