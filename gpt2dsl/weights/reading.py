"""Weights of any format: summarised for a plan, read for a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from gpt2dsl.data.source import File, Source
from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import HEAD, WTE
from gpt2dsl.weights import beside, trained_base
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.files.lazy_tensor import NAMES, LazyTensor
from gpt2dsl.weights.formats.config import class_names
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.network_weights import Weights
from gpt2dsl.weights.opening import opened


@attrs.frozen(kw_only=True)
class WeightsInfo:
    """Summary of weights, without their values.

    Attributes:
        path: the folder, or the file that was named.
        geometry: the network.
        kind: description of the format.
        size: size of the files in bytes.
        digest: SHA-256 of the weights' file; None if computing it would take long.
        tokenizer: the folder of their tokenizer; None if there is none.
        dtypes: element types of the tensors.
        adapter: whether an adapter is merged into them.
        classes: names of a classifier's classes; () if there are none.
        config: the content of config.json; {} if there is none.
        new: missing parameters that are allowed to be missing, and will be initialised.
        tensors: lazy tensors, in the order of the forward pass.
        unknown: unknown files and keys beside them, each key with its value.
        defaults: recipe defaults from the files beside them.
        files: every file that determines them, including an adapter's base, under its role.
    """

    path: Path
    geometry: GPT2Config
    kind: str
    size: int
    digest: str | None
    tokenizer: Path | None
    dtypes: tuple[str, ...] = ()
    adapter: bool = False
    classes: tuple[str, ...] = ()
    config: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    new: tuple[str, ...] = ()
    tensors: Mapping[str, LazyTensor] = attrs.field(factory=dict, repr=False)
    unknown: tuple[str, ...] = ()
    defaults: Defaults = attrs.field(factory=Defaults, repr=False)
    files: tuple[tuple[str, Path], ...] = attrs.field(default=(), repr=False)


def read_info(name: str | Path, overrides: Overrides | None = None) -> WeightsInfo:
    """Summarise weights and check names and shapes of their tensors, without reading values.

    Raises:
        InputError: they can't be used.
    """
    weights = _usable(name, overrides or Overrides(), contents=False)
    source = Source(str(name), tuple(map(File.at, weights.location.files)))
    return WeightsInfo(
        path=weights.path,
        geometry=weights.geometry,
        kind=weights.format,
        size=source.size,
        digest=source.known_digest(),
        tokenizer=weights.tokenizer,
        dtypes=tuple(sorted({NAMES[tensor.kind] for tensor in weights.tensors.values()})),
        adapter=weights.adapter is not None,
        classes=class_names(weights.config) if weights.geometry.labels else (),
        config=weights.config,
        new=weights.missing,
        tensors=weights.tensors,
        unknown=tuple(note for file in beside.fates_of(weights.location) for note in file.unknown),
        defaults=weights.defaults,
        files=_files(weights),
    )


def _files(weights: Weights) -> tuple[tuple[str, Path], ...]:
    deciding = beside.deciding(weights.location)
    if not weights.base or weights.base.location == weights.location:  # both in one file
        return tuple(deciding)
    base = beside.deciding(weights.base.location)
    return (*deciding, *((f"base {role}", path) for role, path in base))


def read(name: str | Path, overrides: Overrides | None = None, *, contents: bool = True) -> Weights:
    """Return complete weights; ``contents`` as in ``location.find``.

    Whoever reads their values checks that they are finite: ``Values`` and ``StreamDigest`` do.

    Raises:
        InputError: the weights are absent (G2-301), empty (G2-302), damaged (G2-304), or do not
            match the network (G2-306).
    """
    weights = _usable(name, overrides or Overrides(), contents=contents)
    if weights.head and not _same(weights.head, weights.tensors[WTE]):
        message = (
            f"{HEAD} is not the word table, as config.json says: tie_word_embeddings = false makes "
            "it a head of its own; without it transformers drops it"
        )
        raise InputError("G2-306", weights.location.files[0], message)
    return weights


def _usable(name: str | Path, overrides: Overrides, *, contents: bool) -> Weights:
    """Return weights of which only parameters are missing that are allowed to be."""
    weights = opened(name, overrides, contents=contents)
    lacking = tuple(missing for missing in weights.missing if not overrides.may_lack(missing))
    attrs.evolve(weights, missing=lacking).refuse()
    if weights.base and weights.location.checkpoint and not overrides.base:
        base = weights.base.location
        files = beside.deciding(base)
        folder = weights.location.folder
        trained_base.refuse_changed(folder, str(base.path), files, compute=contents)
    return weights


def _same(a: LazyTensor, b: LazyTensor) -> bool:
    """Return whether two tensors have the same bytes, including NaN."""
    if (a.kind, a.shape) != (b.kind, b.shape):
        return False
    if a.is_at(b):  # PyTorch stores tied tensors once.
        return True
    pairs = zip(a.blocks(), b.blocks(), strict=True)
    return all(np.array_equal(x.view(np.uint8), y.view(np.uint8)) for x, y in pairs)
