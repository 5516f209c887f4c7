"""Adapters: low-rank updates of weights, and tensors that they replace.

LoRA (Hu et al. 2021) adds the product of two thin matrices to a weight, DoRA (Liu et al. 2024)
learns the magnitude of each output of the sum, PiSSA (Meng et al. 2024) and OLoRA (Büyükakyüz 2024)
subtract their matrices' initial values from the base.
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
"""Modules with weights ``[out, in]``; all others are Conv1D or embeddings, ``[in, out]``."""

Beginning = Literal["", "pissa", "olora"]
"""Initialisation of an adapter that changed its base; "" for any other."""


@attrs.frozen(kw_only=True)
class StoredLoRA:
    """A low-rank update of one weight ``[in, out]``: ``scale (B A)^T``.

    Attributes:
        a: ``[r, in]``.
        b: ``[out, r]``.
        alpha: numerator of the scale.
        scale: alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA.
        magnitude: ``[out]``, the norm of each output's column in the sum (DoRA).
        bias: ``[out]``, the bias of B.
        beginning: pissa subtracts the r largest singular values from the base first, olora the
            first r columns of its QR decomposition.
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
        """Rank r of the update."""
        return self.a.shape[0]

    @property
    def tensors(self) -> tuple[LazyTensor, ...]:
        """The two matrices, then magnitude and bias if present."""
        optional = (tensor for tensor in (self.magnitude, self.bias) if tensor)
        return (self.a, self.b, *optional)


@attrs.frozen(kw_only=True)
class ReplacedRows:
    """Rows of an embedding table that an adapter replaces, ``[rows, width]``."""

    indices: tuple[int, ...]
    values: LazyTensor


@attrs.frozen(kw_only=True)
class Origin:
    """The files an adapter was read from, written back unchanged with its other files."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, LazyTensor]


@attrs.frozen(kw_only=True)
class Adapter:
    """An adapter of a network.

    Attributes:
        modules: module's name, ``transformer.h.0.attn.c_attn`` → update of its weight.
        base: the weights it was trained on; "" if not recorded.
        full: tensors replaced as a whole, such as the score of a classifier.
        rows: a table's name → its replaced rows.
        own: the names among wte and lm_head that the adapter has a copy of its own for, which
            unties the two.
        bare: whether its base is GPT2Model without a head, whose names lack ``transformer.``.
        dropout: dropout probability of the adapters' inputs in training.
        origin: the files of an adapter read from PEFT's format.
    """

    modules: Mapping[str, StoredLoRA]
    base: str
    full: Mapping[str, LazyTensor]
    rows: Mapping[str, ReplacedRows] = attrs.field(factory=dict)
    own: frozenset[str] = frozenset()
    bare: bool = False
    dropout: float = 0.0
    origin: Origin | None = None

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def tensors(self) -> tuple[LazyTensor, ...]:
        """All tensors of the adapter."""
        added = (tensor for module in self.modules.values() for tensor in module.tensors)
        return (*added, *self.full.values(), *(rows.values for rows in self.rows.values()))


@attrs.frozen(eq=False)
class MergedWeight(Whole):
    """A weight merged with its adapter, in the weight's element type."""

    of: LazyTensor
    part: StoredLoRA
    transposed: bool

    def make(self) -> NDArray[Any]:
        """Return the merged tensor."""
        stored = to_float32(self.of.rows(0, self.of.length), self.of.kind)
        weight = _rest(stored, self.part)
        product = self.part.a.load().T @ self.part.b.load().T  # [in, r] [r, out] → [in, out]
        product *= np.float32(self.part.scale)
        total = weight.T + product if self.transposed else np.add(weight, product, out=product)
        if self.part.magnitude:
            total *= self.part.magnitude.load() / np.linalg.norm(total, axis=0)
        return from_float32(np.ascontiguousarray(total.T if self.transposed else total), self.kind)


@attrs.frozen(eq=False)
class MergedBias(Whole):
    """A bias merged with that of an adapter."""

    of: LazyTensor
    part: StoredLoRA

    def make(self) -> NDArray[Any]:
        """Return the merged bias."""
        assert self.part.bias
        base_bias = to_float32(self.of.rows(0, self.of.length), self.of.kind)
        return from_float32(
            base_bias + np.float32(self.part.scale) * self.part.bias.load(), self.kind
        )


@attrs.frozen(eq=False)
class MergedTable(Whole):
    """An embedding table with some rows replaced."""

    of: LazyTensor
    part: ReplacedRows

    def make(self) -> NDArray[Any]:
        """Return the table."""
        table = to_float32(self.of.rows(0, self.of.length), self.of.kind).copy()
        table[list(self.part.indices)] = self.part.values.load()
        return from_float32(table, self.kind)


def _rest(weight: Array, part: StoredLoRA) -> Array:
    """Return a base weight minus the adapter's initial values; ``[in, out]`` or ``[out, in]``."""
    if part.beginning == "pissa":
        u, s, vh = np.linalg.svd(weight, full_matrices=False)
        residual: Array = weight - (u[:, : part.rank] * s[: part.rank]) @ vh[: part.rank]
        return residual
    if part.beginning == "olora":
        q, r = np.linalg.qr(weight)
        # As in PEFT, Conv1D's [in, out] is decomposed as if it were [out, in].
        initial = np.float32(part.scale) * (q[:, : part.rank] @ r[: part.rank])
        return np.asarray(weight - initial, np.float32)
    return weight


def merged(tensors: Mapping[str, LazyTensor], adapter: Adapter) -> dict[str, LazyTensor]:
    """Return the network's tensors merged with an adapter, whose shapes must fit."""
    result = dict(tensors)
    if adapter.own:
        result.setdefault(HEAD, tensors[WTE])
    result |= dict(adapter.full)
    for name, rows in adapter.rows.items():
        result[name] = MergedTable(result[name].kind, result[name].shape, result[name], rows)
    for module, part in adapter.modules.items():
        weight, bias = result[f"{module}.weight"], result.get(f"{module}.bias")
        result[f"{module}.weight"] = MergedWeight(
            weight.kind, weight.shape, weight, part, module in HEAD_MODULES
        )
        if part.bias and bias:
            result[f"{module}.bias"] = MergedBias(bias.kind, bias.shape, bias, part)
    return result


def misfits(shapes: Mapping[str, tuple[int, ...]], adapter: Adapter) -> list[str]:
    """Return a message for each mismatch between a network's shapes and an adapter."""
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
    """Return why an update does not fit a weight; "" if it does."""
    shape = stored[::-1] if transposed else stored  # [in, out]
    adapter_shape = (*part.a.shape[-1:], *part.b.shape[:1])
    if shape != adapter_shape or part.b.shape[-1] != part.rank:
        return f"{adapter_shape} for a weight of {shape}"
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
