"""Weights of ONNX graphs, in one external file shared by all graphs of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import param_specs
from gpt2dsl.weights.files.hashing import hashed
from gpt2dsl.weights.files.lazy_tensor import LazyTensor
from gpt2dsl.weights.files.pieces import SlicedTensor

THIRDS = ("query", "key", "value")

_ALIGNED = 64


@attrs.frozen
class ExternalTensor:
    """A float32 or float16 tensor in a weights file; offset and size are in bytes."""

    kind: str
    shape: tuple[int, ...]
    offset: int
    size: int
    file: str


def thirds(tensors: Mapping[str, LazyTensor], geometry: GPT2Config) -> dict[str, LazyTensor]:
    """Return tensors with c_attn split in three, as slicing its output would copy it per token."""
    fused = {spec.name for spec in param_specs(geometry) if spec.fused > 1}
    split: dict[str, LazyTensor] = {}
    for name, tensor in tensors.items():
        if name not in fused:
            split[name] = tensor
            continue
        width = tensor.shape[-1] // 3
        for i, third in enumerate(THIRDS):
            edges = [(0, length) for length in tensor.shape[:-1]]
            box = (*edges, (i * width, (i + 1) * width))
            split[name.replace("c_attn", third)] = SlicedTensor.at(tensor, box)
    return split


def write_weights(path: Path, tensors: Mapping[str, LazyTensor]) -> dict[str, ExternalTensor]:
    """Write all tensors to one file; return each tensor's place in it."""
    placed: dict[str, ExternalTensor] = {}
    offset = 0
    with hashed(path) as file:
        for name, tensor in tensors.items():
            padding = -offset % _ALIGNED
            file.write(b"\0" * padding)
            offset += padding
            placed[name] = ExternalTensor(tensor.kind, tensor.shape, offset, tensor.size, path.name)
            for block in tensor.blocks():
                file.write(np.ascontiguousarray(block).data)
            offset += tensor.size
    return placed
