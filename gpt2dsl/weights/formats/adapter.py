"""Adapters of a network: what they add to its weights, and what they replace.

LoRA (Hu et al. 2021) adds two thin matrices to a weight, DoRA (Liu et al. 2024) gives each output
of the sum a length of its own, PiSSA (Meng et al. 2024) and OLoRA (Büyükakyüz 2024) take from the
base what their matrices began as.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.layout.params import HEAD, SCORE, WTE
from gpt2dsl.weights.files.lazy_tensor import Array, LazyTensor, Whole, from_float32, to_float32

HEAD_MODULES = ("lm_head", SCORE.removesuffix(".weight"))
"""Modules whose weights are ``[out, in]``; all others are Conv1D or tables, ``[in, out]``."""

Beginning = Literal["", "pissa", "olora"]
"""How an adapter began, where that changed its base."""


@attrs.frozen(kw_only=True)
class StoredLoRA:
    """What is added to one weight ``[in, out]``: ``scale (B A)^T``.

    Attributes:
        a: ``[r, in]``.
        b: ``[out, r]``.
        alpha: what the scale is made of.
        scale: alpha / r, or alpha / sqrt(r) of rank-stabilised LoRA.
        magnitude: ``[out]``, the length of each output's column in the sum (DoRA).
        bias: ``[out]``, which B adds.
        beginning: pissa takes the r largest singular values from the base first, olora the first r
            columns of its QR decomposition.
    """

    a: LazyTensor
    b: LazyTensor
    alpha: float
    scale: float
    magnitude: LazyTensor | None = None
    bias: LazyTensor | None = None
    beginning: Beginning = ""

    @property
    def rank(self) -> int:
        """R."""
        return self.a.shape[0]

    @property
    def tensors(self) -> tuple[LazyTensor, ...]:
        """The matrices, and magnitude and bias if there are any."""
        more = (tensor for tensor in (self.magnitude, self.bias) if tensor)
        return (self.a, self.b, *more)


@attrs.frozen(kw_only=True)
class Rows:
    """Rows of a table that an adapter replaces.

    Attributes:
        indices: which rows.
        values: ``[rows, width]``.
    """

    indices: tuple[int, ...]
    values: LazyTensor


@attrs.frozen(kw_only=True)
class Origin:
    """The files that an adapter was read from, which are written again as they are.

    Attributes:
        folder: what lies beside them belongs to the adapter.
        config: the content of adapter_config.json.
        tensors: under the names of the file.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, LazyTensor]


@attrs.frozen(kw_only=True)
class Adapter:
    """An adapter of a network.

    Attributes:
        modules: module's name, ``transformer.h.0.attn.c_attn`` → what is added to its weight.
        base: the weights that it belongs to, "" where it doesn't say.
        full: tensors that it holds whole, such as the score of a classifier.
        rows: a table's name → the rows that it holds.
        own: those of the word table and the language-model head that it has a copy of for itself,
            so that the two are no longer one.
        bare: whether it belongs to GPT2Model without a head, whose names lack ``transformer.``.
        dropout: probability on the adapters' inputs in training.
        origin: of an adapter that PEFT's files hold.
    """

    modules: Mapping[str, StoredLoRA]
    base: str
    full: Mapping[str, LazyTensor]
    rows: Mapping[str, Rows] = attrs.field(factory=dict)
    own: frozenset[str] = frozenset()
    bare: bool = False
    dropout: float = 0.0
    origin: Origin | None = None

    @property
    def parameters(self) -> int:
        """How many."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def tensors(self) -> tuple[LazyTensor, ...]:
        """All of them."""
        added = (tensor for module in self.modules.values() for tensor in module.tensors)
        return (*added, *self.full.values(), *(rows.values for rows in self.rows.values()))


@attrs.frozen(eq=False)
class Merged(Whole):
    """A weight with an adapter's part added, in the weight's own type."""

    of: LazyTensor
    part: StoredLoRA
    transposed: bool

    def make(self) -> NDArray[Any]:
        """Return the sum."""
        stored = to_float32(self.of.rows(0, self.of.length), self.of.kind)
        weight = _rest(stored, self.part)
        product = self.part.a.load().T @ self.part.b.load().T  # [in, r] [r, out] → [in, out]
        total = (weight.T if self.transposed else weight) + np.float32(self.part.scale) * product
        if self.part.magnitude:
            total *= self.part.magnitude.load() / np.linalg.norm(total, axis=0)
        return from_float32(np.ascontiguousarray(total.T if self.transposed else total), self.kind)


@attrs.frozen(eq=False)
class Raised(Whole):
    """A bias with the one of an adapter added."""

    of: LazyTensor
    part: StoredLoRA

    def make(self) -> NDArray[Any]:
        """Return the sum."""
        assert self.part.bias
        own = to_float32(self.of.rows(0, self.of.length), self.of.kind)
        return from_float32(own + np.float32(self.part.scale) * self.part.bias.load(), self.kind)


@attrs.frozen(eq=False)
class Patched(Whole):
    """A table with some of its rows replaced."""

    of: LazyTensor
    part: Rows

    def make(self) -> NDArray[Any]:
        """Return the table."""
        table = to_float32(self.of.rows(0, self.of.length), self.of.kind).copy()
        table[list(self.part.indices)] = self.part.values.load()
        return from_float32(table, self.kind)


def _rest(weight: Array, part: StoredLoRA) -> Array:
    """Return what an adapter left of its base when it began; ``[in, out]`` or ``[out, in]``."""
    if part.beginning == "pissa":
        u, s, vh = np.linalg.svd(weight, full_matrices=False)
        rest: Array = weight - (u[:, : part.rank] * s[: part.rank]) @ vh[: part.rank]
        return rest
    if part.beginning == "olora":
        q, r = np.linalg.qr(weight)
        # PEFT decomposes Conv1D's [in, out] as if it were [out, in]; so does this.
        taken = np.float32(part.scale) * (q[:, : part.rank] @ r[: part.rank])
        return np.asarray(weight - taken, np.float32)
    return weight


def merged(tensors: Mapping[str, LazyTensor], adapter: Adapter) -> dict[str, LazyTensor]:
    """Return the network's tensors with an adapter's parts added; they must fit."""
    result = dict(tensors)
    if adapter.own:
        result.setdefault(HEAD, tensors[WTE])
    result |= dict(adapter.full)
    for name, rows in adapter.rows.items():
        result[name] = Patched(result[name].kind, result[name].shape, result[name], rows)
    for module, part in adapter.modules.items():
        weight, bias = result[f"{module}.weight"], result.get(f"{module}.bias")
        result[f"{module}.weight"] = Merged(
            weight.kind, weight.shape, weight, part, module in HEAD_MODULES
        )
        if part.bias and bias:
            result[f"{module}.bias"] = Raised(bias.kind, bias.shape, bias, part)
    return result


def misfits(shapes: Mapping[str, tuple[int, ...]], adapter: Adapter) -> list[str]:
    """Return where an adapter does not fit a network, in words.

    Args:
        shapes: of the network's tensors, by name.
        adapter: whether it fits them.
    """
    problems = []
    for module, part in adapter.modules.items():
        shape = shapes.get(f"{module}.weight")
        if shape is None:
            problems.append(f"{module}, which is not in the base")
        elif problem := _misfit(shape, part, transposed=module in HEAD_MODULES):
            problems.append(f"{module}: {problem}")
    problems += [
        f"{name}: {tensor.shape}"
        for name, tensor in adapter.full.items()
        if shapes.get(name) != tensor.shape and (name != HEAD or name in shapes)
    ]
    for name, rows in adapter.rows.items():
        length, width = shapes.get(name, (0, 0))
        count = len(rows.indices)
        if rows.values.shape != (count, width):
            problems.append(f"{name}: {count} rows, and values of {rows.values.shape}")
        elif not all(0 <= index < length for index in rows.indices):
            problems.append(f"{name}: row {max(rows.indices)} of {length}")
    return problems


def _misfit(stored: tuple[int, ...], part: StoredLoRA, *, transposed: bool) -> str:
    """Return why an adapter does not fit a weight, "" where it does."""
    shape = stored[::-1] if transposed else stored  # [in, out]
    own = (*part.a.shape[-1:], *part.b.shape[:1])
    if shape != own or part.b.shape[-1] != part.rank:
        return f"{own} for a weight of {shape}"
    for word, tensor in {"magnitude": part.magnitude, "bias": part.bias}.items():
        if tensor and tensor.shape != shape[-1:]:
            return f"its {word} is {tensor.shape} for {shape[-1]} outputs"
    if part.beginning and part.rank > min(shape, default=0):
        return (
            f"rank {part.rank} of a weight of {shape}, of which {part.beginning} has {min(shape)}"
        )
    if part.beginning == "olora" and not transposed and shape[0] != shape[-1]:
        return f"PEFT has no OLoRA for a Conv1D that is not square, and this one is {shape}"
    return ""
