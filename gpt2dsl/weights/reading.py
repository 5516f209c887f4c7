"""Weights of any format: looked at for a plan, read for a run."""

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
from gpt2dsl.weights import beside
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.files.lazy_tensor import NAMES, Arrays, LazyTensor, all_finite
from gpt2dsl.weights.formats.config import class_names
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.opening import Opened, opened


@attrs.frozen(kw_only=True)
class Look:
    """What is known of weights without reading them.

    Attributes:
        path: the folder, or the file that was named.
        geometry: the network.
        kind: what they are, in words.
        size: bytes.
        digest: SHA-256 of the weights' file; None where computing it would take long.
        tokenizer: the folder of the tokenizer that came with them, None where none did.
        dtypes: the element types of their tensors.
        adapter: whether an adapter is merged into them.
        classes: names of a classifier's classes; () where there are none.
        new: parameters that they may lack, and do; they get new values.
        tensors: in the order of the forward pass, not read.
        unknown: files and keys beside them that nobody knows, each with its value.
        defaults: what the files beside them say of a recipe's keys.
        files: every file that decides what they are, an adapter's base included, under its role.
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
    """Weights to read.

    Attributes:
        path: the folder, or the file that was named.
        geometry: the network.
        config: what config.json said; {} where there is none.
        tensors: in the order of the forward pass.
        tokenizer: the folder of the tokenizer that came with them, None where none did.
        new: parameters that they may lack, and do; they get new values.
        passed: newer checkpoints of the run that are damaged, and what is wrong with each.
        defaults: what the files beside them say of a recipe's keys.
        base: the weights that an adapter was merged into, as they were; None where none was.
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
        """Name → float32, read at each access."""
        return Arrays(self.tensors)


def look(name: str | Path, hints: Overrides | None = None) -> Look:
    """What weights are, and whether all tensors are there in the right shape; values are not read.

    Args:
        name: as in ``place.find``.
        hints: what the files may not say.

    Raises:
        InputError: they can't be used.
    """
    found, new = _allowed(name, hints or Overrides(), contents=False)
    source = Source(str(name), tuple(map(File.at, found.place.files)))
    return Look(
        path=found.place.path,
        geometry=found.geometry,
        kind=found.format,
        size=source.size,
        digest=source.known_digest(),
        tokenizer=found.tokenizer,
        dtypes=tuple(sorted({NAMES[tensor.kind] for tensor in found.tensors.values()})),
        adapter=found.adapter is not None,
        classes=class_names(found.config) if found.geometry.labels else (),
        new=new,
        tensors=found.tensors,
        unknown=tuple(note for file in beside.fates_of(found.place) for note in file.unknown),
        defaults=found.defaults,
        files=_files(found),
    )


def _files(opened: Opened) -> tuple[tuple[str, Path], ...]:
    own = beside.deciding(opened.place)
    if not opened.base or opened.base.place == opened.place:  # both are in one file
        return tuple(own)
    base = beside.deciding(opened.base.place)
    return (*own, *((f"base {role}", path) for role, path in base))


def read(
    name: str | Path, hints: Overrides | None = None, *, values: bool = True, contents: bool = True
) -> Weights:
    """Weights that are whole.

    Args:
        name: as in ``place.find``.
        hints: what the files may not say.
        values: whether every value is looked at, and must be finite. Whoever reads them once only
            looks at them then.
        contents: whether a checkpoint's checksums are compared, as in ``store.verify``.

    Raises:
        InputError: they can't be used: absent (G2-301), empty (G2-302), damaged (G2-304), or not
            those of the network that they should be of (G2-306).
    """
    found, new = _allowed(name, hints or Overrides(), contents=contents)
    if found.head and not _same(found.head, found.tensors[WTE]):
        message = (
            f"{HEAD} is not the word table, as config.json says: tie_word_embeddings = false makes "
            "it a head of its own; without it transformers drops it"
        )
        raise InputError("G2-306", found.place.files[0], message)
    if values and (wrong := [name for name, one in found.tensors.items() if not _finite(one)]):
        raise InputError("G2-306", found.place.files[0], f"NaN or infinite: {some(wrong)}")
    weights = _weights(found)
    return attrs.evolve(weights, new=new, base=_weights(found.base) if found.base else None)


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
    """Weights that are whole but for what may be missing, and the names of that."""
    found = opened(name, hints, contents=contents)
    new = tuple(missing for missing in found.missing if hints.may_lack(missing))
    lacking = tuple(missing for missing in found.missing if missing not in new)
    attrs.evolve(found, missing=lacking).refuse()
    return found, new


def _finite(tensor: LazyTensor) -> bool:
    return all(all_finite(block, tensor.kind) for block in tensor.blocks())


def _same(one: LazyTensor, other: LazyTensor) -> bool:
    """Return whether two tensors hold the same bytes, NaN included."""
    if (one.kind, one.shape) != (other.kind, other.shape):
        return False
    if one.is_at(other):  # PyTorch writes tied tensors once.
        return True
    pairs = zip(one.blocks(), other.blocks(), strict=True)
    return all(np.array_equal(a.view(np.uint8), b.view(np.uint8)) for a, b in pairs)
