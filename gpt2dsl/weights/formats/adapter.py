"""A LoRA adapter (Hu et al. 2021): two thin matrices beside each weight that it changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.weights.files.stored import Stored, Whole, from_float32, to_float32


@attrs.frozen(kw_only=True)
class LowRank:
    """What is added to one weight ``[in, out]``: ``scale (B A)^T``.

    Attributes:
        a: ``[r, in]``.
        b: ``[out, r]``.
        alpha: what the scale is made of.
        scale: alpha / r, or alpha / sqrt(r) of rank-stabilised LoRA.
    """

    a: Stored
    b: Stored
    alpha: float
    scale: float

    @property
    def rank(self) -> int:
        """R."""
        return self.a.shape[0]


@attrs.frozen(kw_only=True)
class Adapter:
    """An adapter of a network.

    Attributes:
        modules: module's name, ``transformer.h.0.attn.c_attn`` → what is added to its weight.
        base: the weights that it belongs to, "" where it doesn't say.
        full: tensors that it holds whole, such as the score of a classifier.
        bare: whether it belongs to GPT2Model without a head, whose names lack ``transformer.``.
    """

    modules: Mapping[str, LowRank]
    base: str
    full: Mapping[str, Stored]
    bare: bool = False

    @property
    def parameters(self) -> int:
        """How many."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def tensors(self) -> tuple[Stored, ...]:
        """All of them."""
        pairs = (tensor for module in self.modules.values() for tensor in (module.a, module.b))
        return (*pairs, *self.full.values())


@attrs.frozen(eq=False)
class Merged(Whole):
    """A weight ``[in, out]`` with an adapter's part added, in the weight's own type."""

    of: Stored
    part: LowRank

    def make(self) -> NDArray[Any]:
        """The sum."""
        product = self.part.a.load().T @ self.part.b.load().T  # [in, r] [r, out] → [in, out]
        weight = to_float32(self.of.rows(0, self.of.length), self.of.kind)
        return from_float32(weight + np.float32(self.part.scale) * product, self.kind)


def merged(tensors: Mapping[str, Stored], adapter: Adapter) -> dict[str, Stored]:
    """The network's tensors with an adapter's parts added; they must fit."""
    found = dict(tensors)
    for module, part in adapter.modules.items():
        weight = found[f"{module}.weight"]
        found[f"{module}.weight"] = Merged(weight.kind, weight.shape, weight, part)
    return found | dict(adapter.full)


def misfits(shapes: Mapping[str, tuple[int, ...]], adapter: Adapter) -> list[str]:
    """Where an adapter does not fit a network, in words.

    Args:
        shapes: of the network's tensors, by name.
        adapter: whether it fits them.
    """
    found = []
    for module, part in adapter.modules.items():
        shape = shapes.get(f"{module}.weight")
        own = (part.a.shape[-1], part.b.shape[0]) if part.a.shape and part.b.shape else ()
        if shape is None:
            found.append(f"{module}, which is not in the base")
        elif shape != own or part.b.shape[-1] != part.rank:
            found.append(f"{module}: {own} for a weight of {shape}")
    found += [
        f"{name}: {tensor.shape}"
        for name, tensor in adapter.full.items()
        if shapes.get(name) != tensor.shape
    ]
    return found
