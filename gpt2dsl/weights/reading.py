"""Weights of any format: summarised for a plan, read for a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from gpt2dsl.data.source import File, Source
from gpt2dsl.errors import InputError, some
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import HEAD, WTE
from gpt2dsl.weights import beside, trained_base
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.files.lazy_tensor import NAMES, Arrays, LazyTensor, all_finite
from gpt2dsl.weights.formats.config import class_names
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.opening import Opened, opened


@attrs.frozen(kw_only=True)
class Look:
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
    new: tuple[str, ...] = ()
    tensors: Mapping[str, LazyTensor] = attrs.field(factory=dict, repr=False)
    unknown: tuple[str, ...] = ()
    defaults: Defaults = attrs.field(factory=Defaults, repr=False)
    files: tuple[tuple[str, Path], ...] = attrs.field(default=(), repr=False)


@attrs.frozen(kw_only=True)
class Weights:
    """Weights ready to be read.

    Attributes:
        path: the folder, or the file that was named.
        geometry: the network.
        config: the content of config.json; {} if there is none.
        tensors: lazy tensors, in the order of the forward pass.
        tokenizer: the folder of their tokenizer; None if there is none.
        new: missing parameters that are allowed to be missing, and will be initialised.
        passed: the faults of newer, damaged checkpoints of the run, which were skipped.
        defaults: recipe defaults from the files beside them.
        base: the weights before an adapter was merged; None if there is no adapter.
    """

    path: Path
    geometry: GPT2Config
    config: dict[str, Any] = attrs.field(repr=False)
    tensors: Mapping[str, LazyTensor] = attrs.field(repr=False)
    tokenizer: Path | None
    new: tuple[str, ...] = ()
    passed: tuple[InputError, ...] = ()
    defaults: Defaults = attrs.field(factory=Defaults, repr=False)
    base: Weights | None = attrs.field(default=None, repr=False)

    @property
    def arrays(self) -> Arrays:
        """Name → float32 values, read at each access."""
        return Arrays(self.tensors)


def look(name: str | Path, hints: Overrides | None = None) -> Look:
    """Summarise weights and check names and shapes of their tensors, without reading values.

    Args:
        name: as in ``location.find``.
        hints: settings that the files may lack.

    Raises:
        InputError: they can't be used.
    """
    weights, new = _allowed(name, hints or Overrides(), contents=False)
    source = Source(str(name), tuple(map(File.at, weights.place.files)))
    return Look(
        path=weights.place.path,
        geometry=weights.geometry,
        kind=weights.format,
        size=source.size,
        digest=source.known_digest(),
        tokenizer=weights.tokenizer,
        dtypes=tuple(sorted({NAMES[tensor.kind] for tensor in weights.tensors.values()})),
        adapter=weights.adapter is not None,
        classes=class_names(weights.config) if weights.geometry.labels else (),
        new=new,
        tensors=weights.tensors,
        unknown=tuple(note for file in beside.fates_of(weights.place) for note in file.unknown),
        defaults=weights.defaults,
        files=_files(weights),
    )


def _files(opened: Opened) -> tuple[tuple[str, Path], ...]:
    deciding = beside.deciding(opened.place)
    if not opened.base or opened.base.place == opened.place:  # both in one file
        return tuple(deciding)
    base = beside.deciding(opened.base.place)
    return (*deciding, *((f"base {role}", path) for role, path in base))


def read(
    name: str | Path, hints: Overrides | None = None, *, values: bool = True, contents: bool = True
) -> Weights:
    """Return complete weights.

    Args:
        name: as in ``location.find``.
        hints: settings that the files may lack.
        values: whether to check that every value is finite; callers that read each value only once
            check it then.
        contents: whether to compare a checkpoint's checksums, as in ``store.verify``.

    Raises:
        InputError: the weights are absent (G2-301), empty (G2-302), damaged (G2-304), or do not
            match the network (G2-306).
    """
    loaded, new = _allowed(name, hints or Overrides(), contents=contents)
    if loaded.head and not _same(loaded.head, loaded.tensors[WTE]):
        message = (
            f"{HEAD} is not the word table, as config.json says: tie_word_embeddings = false makes "
            "it a head of its own; without it transformers drops it"
        )
        raise InputError("G2-306", loaded.place.files[0], message)
    if values and (
        wrong := [name for name, tensor in loaded.tensors.items() if not _finite(tensor)]
    ):
        raise InputError("G2-306", loaded.place.files[0], f"NaN or infinite: {some(wrong)}")
    weights = _weights(loaded)
    return attrs.evolve(weights, new=new, base=_weights(loaded.base) if loaded.base else None)


def _weights(opened: Opened) -> Weights:
    return Weights(
        path=opened.place.path,
        geometry=opened.geometry,
        config=opened.config,
        tensors=opened.tensors,
        tokenizer=opened.tokenizer,
        passed=opened.place.passed,
        defaults=opened.defaults,
    )


def _allowed(
    name: str | Path, hints: Overrides, *, contents: bool
) -> tuple[Opened, tuple[str, ...]]:
    """Return weights, and the missing parameters that are allowed to be missing."""
    weights = opened(name, hints, contents=contents)
    new = tuple(missing for missing in weights.missing if hints.may_lack(missing))
    lacking = tuple(missing for missing in weights.missing if missing not in new)
    attrs.evolve(weights, missing=lacking).refuse()
    if weights.base and weights.place.checkpoint and not hints.base:
        base = weights.base.place
        files = beside.deciding(base)
        trained_base.refuse_changed(weights.place.folder, str(base.path), files, compute=contents)
    return weights, new


def _finite(tensor: LazyTensor) -> bool:
    return all(all_finite(block, tensor.kind) for block in tensor.blocks())


def _same(one: LazyTensor, other: LazyTensor) -> bool:
    """Return whether two tensors have the same bytes, including NaN."""
    if (one.kind, one.shape) != (other.kind, other.shape):
        return False
    if one.is_at(other):  # PyTorch stores tied tensors once.
        return True
    pairs = zip(one.blocks(), other.blocks(), strict=True)
    return all(np.array_equal(a.view(np.uint8), b.view(np.uint8)) for a, b in pairs)
