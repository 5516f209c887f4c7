"""Conversion of a network's LoRA adapters to PEFT's layout and back.

PEFT adapts c_attn only as a whole: adapters on its q, k and v slices become one whose rank is the
sum of theirs. Its A stacks theirs, and its B is zero outside their slices.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.layout.lora import THIRDS, LoRASpec
from gpt2dsl.weights.files.lazy_tensor import ArrayTensor
from gpt2dsl.weights.formats.adapter import Adapter, StoredLoRA

Values = Mapping[str, NDArray[np.float32]]


def to_files(
    slots: Sequence[LoRASpec], values: Values, full: Values, base: str, dropout: float = 0.0
) -> Adapter:
    """Return a network's adapters, with values by ``LoRASpec.shapes``, in PEFT's layout."""
    modules = {}
    for module, group in itertools.groupby(slots, key=lambda slot: slot.module):
        adapters = list(group)
        a = np.concatenate([values[f"{slot.name}.lora_A"] for slot in adapters])  # [sum r, in]
        b = np.concatenate([_spread(slot, values) for slot in adapters], 1)  # [out, sum r]
        scale = adapters[0].scale
        modules[module] = StoredLoRA(
            a=ArrayTensor.of(a), b=ArrayTensor.of(b), alpha=scale * len(a), scale=scale
        )
    replaced = {name: ArrayTensor.of(array) for name, array in full.items()}
    return Adapter(modules=modules, base=base, full=replaced, dropout=dropout)


def _spread(slot: LoRASpec, values: Values) -> NDArray[np.float32]:
    """Return B over all outputs of its module, ``[out, r]``."""
    b = values[f"{slot.name}.lora_B"]
    if not slot.third:
        return b
    spread = np.zeros((len(THIRDS) * slot.outputs, slot.rank), np.float32)
    spread[_rows(slot)] = b
    return spread


def _rows(slot: LoRASpec) -> slice:
    first = THIRDS.index(slot.third) * slot.outputs
    return slice(first, first + slot.outputs)


def from_files(slots: Sequence[LoRASpec], adapter: Adapter) -> dict[str, NDArray[Any]]:
    """Return the tensors of a network's adapters, by the names of ``LoRASpec.shapes``.

    Raises:
        ValueError: the files contain other adapters.
    """
    arrays: dict[str, NDArray[Any]] = {}
    expected = {slot.module for slot in slots}
    if expected != set(adapter.modules):
        other = sorted(expected ^ set(adapter.modules))
        raise ValueError(f"adapters on other modules: {', '.join(other[:3])}")
    for module, group in itertools.groupby(slots, key=lambda slot: slot.module):
        a, b = adapter.modules[module].a.load(), adapter.modules[module].b.load()
        first = nonzero = 0
        for slot in group:
            ranks = slice(first, first + slot.rank)
            part = b[_rows(slot) if slot.third else slice(None), ranks]
            arrays[f"{slot.name}.lora_A"], arrays[f"{slot.name}.lora_B"] = a[ranks], part
            first += slot.rank
            nonzero += np.count_nonzero(part)
        if first != len(a) or nonzero != np.count_nonzero(b):
            raise ValueError(f"{module}: its adapter is not one of rank {first} on these parts")
    return arrays
