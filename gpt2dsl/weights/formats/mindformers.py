"""MindFormers' tensor names of GPT-2, and its LoRA adapters.

Source: mindformers 0.8.0, models/gpt2: weights of query, key and value are ``[out, in]``, all
others ``[in, out]``, as in Hugging Face's Conv1D.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.errors import InputError
from gpt2dsl.layout.tensor_layout import Box
from gpt2dsl.weights import defaults
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.files.lazy_tensor import (
    STORAGE,
    ArrayTensor,
    LazyTensor,
    Whole,
    extents,
)
from gpt2dsl.weights.formats import settings
from gpt2dsl.weights.formats.adapter import Adapter, StoredLoRA
from gpt2dsl.weights.infer_config import Overrides, infer_config
from gpt2dsl.weights.location import CheckpointLocation
from gpt2dsl.weights.network_weights import Weights

_OUTSIDE = {
    "embedding.word_embedding.embedding_table": "wte.weight",
    "embedding.position_embedding.embedding_table": "wpe.weight",
    "layernorm.gamma": "ln_f.weight",
    "layernorm.beta": "ln_f.bias",
}
_BLOCK = {
    "layernorm1.gamma": "ln_1.weight",
    "layernorm1.beta": "ln_1.bias",
    "layernorm2.gamma": "ln_2.weight",
    "layernorm2.beta": "ln_2.bias",
    "attention.projection.weight": "attn.c_proj.weight",
    "attention.projection.bias": "attn.c_proj.bias",
    "output.mapping.weight": "mlp.c_fc.weight",
    "output.mapping.bias": "mlp.c_fc.bias",
    "output.projection.weight": "mlp.c_proj.weight",
    "output.projection.bias": "mlp.c_proj.bias",
}
_THIRDS = ("dense1", "dense2", "dense3")
_NAME = re.compile(r"backbone\.(?:blocks\.(\d+)\.)?(.+)")
_ADAPTER = re.compile(
    r"backbone\.blocks\.(\d+)\.attention\.(dense[123])\.(?:mindpet|tk)_delta_lora_([abAB])"
)
# Optimizer state, counters and KV caches, which are not weights.
_ASIDE = re.compile(
    r"(adam_[mv]|accum|moment[12]|moments?|stat)\..+|.*\.(key|value)_past|"
    r"(global_step|scale_sense|current_iterator_step|last_overflow_iterator_step|epoch_num|step_num|"
    r"loss_scale|learning_rate|beta[12]_power|momentum|weight_decay)"
)


def is_mindformers(names: Mapping[str, Any]) -> bool:
    """Return whether these are MindFormers' tensor names."""
    return any(name.startswith("backbone.") for name in names)


def is_aside(name: str) -> bool:
    """Return whether a tensor of a checkpoint is training state rather than a weight."""
    return bool(_ASIDE.fullmatch(name))


def open_weights(
    place: CheckpointLocation, kind: str, tensors: Mapping[str, LazyTensor], overrides: Overrides
) -> Weights:
    """Open a checkpoint, with the YAML beside it and its LoRA adapter merged, if there are any.

    Raises:
        InputError: as in ``renamed``, ``adapter`` and ``infer_config``.
    """
    file = place.files[0]
    yaml = settings.of_checkpoint(file, place.folder)
    lora = adapter(tensors, yaml.alpha if yaml else None, file)
    named = renamed(tensors, file)
    geometry, config = infer_config(named, yaml, overrides, file)
    stated = yaml.defaults(geometry) if yaml else Defaults()
    words = f"MindFormers, {kind}"
    weights = Weights.of(
        place, words, geometry, named, config=config,
        defaults=defaults.beside(place, geometry, stated),
        training_state=tuple(filter(is_aside, tensors)),
    )  # fmt: skip
    if not lora:
        return weights
    return attrs.evolve(weights, base=weights).merged(lora, words + " with LoRA")


def own_names(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Return tensors without the ``network.`` prefix that wrapper cells add to names."""
    return {re.sub(r"^(network\.)+(?=backbone\.|score\.)", "", n): t for n, t in tensors.items()}


def renamed(tensors: Mapping[str, LazyTensor], path: Path) -> dict[str, LazyTensor]:
    """Return tensors under Hugging Face's names, with query, key and value joined; no adapters.

    Raises:
        InputError: one of query, key and value is missing, or their shapes differ (G2-306).
    """
    named: dict[str, LazyTensor] = {}
    for name, tensor in tensors.items():
        if is_aside(name) or _ADAPTER.fullmatch(name):
            continue
        match = _NAME.fullmatch(name)
        block, inner = (match[1], match[2]) if match else (None, name)
        head, _, end = inner.rpartition(".")
        if block is not None and head.removeprefix("attention.") in _THIRDS:
            c_attn = f"transformer.h.{block}.attn.c_attn.{end}"
            named[c_attn] = named.get(c_attn) or _thirds(tensors, block, end, path)
        elif block is not None and inner in _BLOCK:
            named[f"transformer.h.{block}.{_BLOCK[inner]}"] = tensor
        elif match and block is None and inner in _OUTSIDE:
            named[f"transformer.{_OUTSIDE[inner]}"] = tensor
        else:
            named[name] = tensor
    return named


def _thirds(tensors: Mapping[str, LazyTensor], block: str, end: str, path: Path) -> LazyTensor:
    """Return c_attn's weight or bias."""
    names = [f"backbone.blocks.{block}.attention.{third}.{end}" for third in _THIRDS]
    if missing := [name for name in names if name not in tensors]:
        raise InputError("G2-306", path, f"{len(missing)} missing: {', '.join(missing)}")
    parts = [tensors[name] for name in names]
    shape, kind = parts[0].shape, parts[0].kind
    if any((p.shape, p.kind) != (shape, kind) for p in parts) or not parts[0].readable:
        shapes = (f"{t} {list(p.shape)} {p.kind}" for t, p in zip(_THIRDS, parts, strict=True))
        message = f"backbone.blocks.{block}.attention: the {end} do not fit: {', '.join(shapes)}"
        raise InputError("G2-306", path, message)
    joined_shape = (*shape[1:], 3 * shape[0]) if len(shape) == 2 else (3 * shape[0],)
    return QKVTensor(kind, joined_shape, tuple(parts))


@attrs.frozen(eq=False)
class QKVTensor(Whole):
    """Query, key and value joined: three of ``[out, in]`` → ``[in, 3 out]``."""

    parts: tuple[LazyTensor, ...]

    def make(self) -> NDArray[Any]:
        """Return the three, transposed, as column blocks."""
        joined = np.empty(self.shape, self.parts[0].rows(0, 0).dtype)
        width = self.shape[-1] // 3
        for i, part in enumerate(self.parts):
            joined[..., i * width : (i + 1) * width] = part.rows(0, part.length).T
        return joined

    def read(self, box: Box) -> NDArray[Any]:
        """Return a box, of which each third is read by its rows."""
        *outer, (first, last) = box
        width = self.shape[-1] // 3
        values = np.empty(extents(box), STORAGE[self.kind])
        for i, part in enumerate(self.parts):
            a, b = max(first, i * width), min(last, (i + 1) * width)
            if a < b:
                third = part.read(((a - i * width, b - i * width), *outer))
                values[..., a - first : b - first] = third.T
        return values

    def prepared(self) -> LazyTensor:
        """Return itself: boxes are read from the file."""
        return self


class _LastRead:
    """Cache of the last tensor read, as its three thirds are written one after another."""

    def __init__(self) -> None:
        self._of: LazyTensor | None = None
        self._rows: NDArray[Any] | None = None

    def whole(self, tensor: LazyTensor) -> NDArray[Any]:
        """Return all rows of a tensor."""
        if self._of is not tensor or self._rows is None:
            self._rows = None  # Freed first: both together need twice the memory.
            self._of, self._rows = tensor, tensor.rows(0, tensor.length)
        return self._rows


@attrs.frozen(eq=False)
class QKVSlice(Whole):
    """One third of c_attn's columns, transposed: ``[in, 3 out] → [out, in]``."""

    of: LazyTensor
    index: int
    last: _LastRead

    def make(self) -> NDArray[Any]:
        """Return the third, transposed."""
        width = self.shape[0]
        columns = self.last.whole(self.of)[..., self.index * width : (self.index + 1) * width]
        return np.ascontiguousarray(columns.T)


def named(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Return the network's tensors under MindFormers' names."""
    mf_names = {hf_name: name for name, hf_name in (_OUTSIDE | _BLOCK).items()}
    last = _LastRead()
    result: dict[str, LazyTensor] = {}
    for full, tensor in tensors.items():
        name = full.removeprefix("transformer.")
        if name == full:  # A classifier's score has the same name in both.
            result[full] = tensor
            continue
        block, inner = "", name
        if match := re.fullmatch(r"h\.(\d+)\.(.+)", name):
            block, inner = f"blocks.{match[1]}.", match[2]
        if inner in mf_names:
            result[f"backbone.{block}{mf_names[inner]}"] = tensor
            continue
        end = inner.rpartition(".")[2]
        shape = (tensor.shape[-1] // 3, *tensor.shape[:-1])
        for i, third in enumerate(_THIRDS):
            part = QKVSlice(tensor.kind, shape, tensor, i, last)
            result[f"backbone.{block}attention.{third}.{end}"] = part
    return result


def adapter(tensors: Mapping[str, LazyTensor], alpha: float | None, path: Path) -> Adapter | None:
    """Return the LoRA adapter of a checkpoint, whose YAML has ``alpha``; None if it has no adapter.

    MindFormers adapts query, key and value separately, which are one tensor here: the adapters are
    joined into one of the summed rank, with B zero outside each adapter's third.

    Raises:
        InputError: half of an adapter is missing (G2-311), or alpha is missing (G2-304).
    """
    halves: dict[str, dict[str, dict[str, LazyTensor]]] = {}
    for name, tensor in tensors.items():
        if match := _ADAPTER.fullmatch(name):
            block = halves.setdefault(match[1], {})
            block.setdefault(match[2], {})[match[3].lower()] = tensor
    if not halves:
        return None
    if alpha is None:
        message = "it holds a LoRA adapter; its lora_alpha is in the YAML that belongs beside it"
        raise InputError("G2-304", path, message)
    modules = {}
    for number, parts in halves.items():
        if lone := [third for third, pair in parts.items() if len(pair) < 2]:
            message = f"block {number}: half of the adapter of {lone[0]} is missing"
            raise InputError("G2-311", path, message)
        if shapes := _unlike(parts):
            raise InputError("G2-311", path, f"block {number}: its adapters are {shapes}")
        modules[f"transformer.h.{number}.attn.c_attn"] = _joined(parts, alpha)
    return Adapter(modules=modules, base="", full={})


def _unlike(parts: Mapping[str, Mapping[str, LazyTensor]]) -> str:
    """Return the shapes of a block's adapters if they can't be joined; "" if they can."""
    a, b = ([pair[half] for pair in parts.values()] for half in "ab")
    fits = all(
        len(half_a.shape) == 2
        and half_a.readable
        and half_a.shape == half_b.shape[::-1] == a[0].shape
        for half_a, half_b in zip(a, b, strict=True)
    )
    halves = (f"{name} {list(half.shape)} {half.kind}" for name, half in _by_name(parts))
    return "" if fits else ", ".join(halves)


def _by_name(parts: Mapping[str, Mapping[str, LazyTensor]]) -> list[tuple[str, LazyTensor]]:
    return [(f"{third} {end}", half) for third, pair in parts.items() for end, half in pair.items()]


def _joined(parts: Mapping[str, Mapping[str, LazyTensor]], alpha: float) -> StoredLoRA:
    adapted = [third for third in _THIRDS if third in parts]
    rank, width = parts[adapted[0]]["a"].shape
    b = np.zeros((3 * width, rank * len(adapted)), np.float32)
    for i, third in enumerate(adapted):
        row = _THIRDS.index(third) * width
        b[row : row + width, i * rank : (i + 1) * rank] = parts[third]["b"].load()
    a = np.concatenate([parts[third]["a"].load() for third in adapted])
    return StoredLoRA(
        a=ArrayTensor.of(a), b=ArrayTensor.of(b), alpha=alpha * len(adapted), scale=alpha / rank
    )
