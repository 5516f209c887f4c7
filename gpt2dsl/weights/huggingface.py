"""Weights in Hugging Face's GPT-2 layout: looked at for a plan, read for a run, written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.data.source import File, Source
from gpt2dsl.errors import InputError
from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.layout.tensors import tensors
from gpt2dsl.weights import place, tensorfile
from gpt2dsl.weights.config import from_config, to_config

if TYPE_CHECKING:
    from gpt2dsl.data.tokenizer import Tokenizer

HEAD = "lm_head.weight"
"""The language-model head: the word table again, which some files hold twice."""

TABLE = "transformer.wte.weight"
"""The word table."""

_PREFIX = "transformer."
_HEADS = (HEAD, "score.weight")

# Causal masks, which old files hold as if they were weights.
_BUFFER = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")


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
    """

    path: Path
    geometry: Geometry
    kind: str
    size: int
    digest: str | None
    tokenizer: Path | None


@attrs.frozen(kw_only=True)
class Weights:
    """Weights that were read.

    Attributes:
        path: the folder, or the file that was named.
        geometry: the network.
        arrays: name → float32, in the order of the forward pass. They are read-only, and read
            from the file at each access.
        tokenizer: the folder of the tokenizer that came with them, None where none did.
        passed: newer checkpoints of the run that are damaged, and what is wrong with each.
    """

    path: Path
    geometry: Geometry
    arrays: Mapping[str, tensorfile.Array] = attrs.field(repr=False)
    tokenizer: Path | None
    passed: tuple[InputError, ...] = ()


def look(name: str | Path) -> Look:
    """What weights are, and whether all tensors are there in the right shape; values are not read.

    Args:
        name: a Hugging Face folder or .safetensors file, or a checkpoint or run of ours.

    Raises:
        InputError: they can't be used.
    """
    found = place.find(name, contents=False)
    geometry, _ = _opened(found)
    source = Source(str(name), tuple(map(File.at, found.files)))
    return Look(
        path=found.path,
        geometry=geometry,
        kind=found.kind,
        size=source.size,
        digest=found.digest or source.known_digest(),
        tokenizer=found.tokenizer,
    )


def read(name: str | Path) -> Weights:
    """Weights, every value of which was found to be finite.

    Args:
        name: a Hugging Face folder or .safetensors file, or a checkpoint or run of ours.

    Raises:
        InputError: they can't be used: absent (G2-301), empty (G2-302), damaged (G2-304), or not
            those of the network that config.json describes (G2-306).
    """
    found = place.find(name)
    geometry, stored = _opened(found)
    head = stored.pop(HEAD, None)
    if head and not _same(head, stored[TABLE]):
        raise InputError(
            "G2-306", found.files[0], f"{HEAD} is not the word table; here they are one"
        )
    arrays = tensorfile.Arrays(stored)
    wrong = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if wrong:
        raise InputError("G2-306", found.files[0], f"NaN or infinite: {_some(wrong)}")
    return Weights(
        path=found.path,
        geometry=geometry,
        arrays=arrays,
        tokenizer=found.tokenizer,
        passed=found.passed,
    )


def write(
    folder: Path,
    geometry: Geometry,
    arrays: Mapping[str, NDArray[Any]],
    tokenizer: Tokenizer | None = None,
) -> None:
    """Writes a folder that ``transformers`` and :func:`read` read.

    Args:
        folder: as ``store.writing`` gives it.
        geometry: the network.
        arrays: every tensor of ``layout.tensors``, by its name there.
        tokenizer: written beside them.

    Raises:
        OSError: the disk is full or can't be written; ``store.writing`` makes it a RunError.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    expected = {tensor.name: tensor.shape for tensor in tensors(geometry)}
    if shapes != expected:
        raise ValueError(f"not the network's tensors: {shapes.items() ^ expected.items()}")
    config = to_config(geometry, tokenizer.eos if tokenizer else None)
    special = {key: value for key, value in config.items() if key.endswith("_token_id")}
    for name, content in ((place.CONFIG, config), ("generation_config.json", special)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    tensorfile.write(folder / place.WEIGHTS, arrays)
    if tokenizer:
        tokenizer.save(folder, geometry.positions)


def _opened(found: place.Place) -> tuple[Geometry, dict[str, tensorfile.Stored]]:
    """The network, and its tensors where they are all there and fit; the head where it is."""
    config = found.folder / place.CONFIG
    geometry = from_config(place.read_json(config), config)
    stored: dict[str, tensorfile.Stored] = {}
    for file in found.files:
        for name, tensor in tensorfile.stored(file).items():
            full = name if name.startswith((_PREFIX, *_HEADS)) else _PREFIX + name
            if not _BUFFER.fullmatch(full):
                stored[full] = tensor
    expected = {tensor.name: tensor.shape for tensor in tensors(geometry)}
    missing = [name for name in expected if name not in stored]
    faults = {
        "missing": missing,
        "unexpected": [name for name in stored if name not in expected and name != HEAD],
        "of another shape": [
            f"{name} is {_shape(stored[name].shape)}, not {_shape(shape)}"
            for name, shape in expected.items()
            if name in stored and stored[name].shape != shape
        ],
        "not floats": [
            f"{name} is {stored[name].kind}"
            for name in expected
            if name in stored and not stored[name].readable
        ],
    }
    said = [f"{len(names)} {what}: {_some(names)}" for what, names in faults.items() if names]
    if said:
        raise InputError("G2-306", found.files[0], "; ".join(said))
    return geometry, {name: stored[name] for name in (*expected, HEAD) if name in stored}


def _same(one: tensorfile.Stored, other: tensorfile.Stored) -> bool:
    """Whether two tensors hold the same bytes, NaN included."""
    return (one.kind, one.shape) == (other.kind, other.shape) and np.array_equal(
        one.data, other.data
    )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f", and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
