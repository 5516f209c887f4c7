"""Hugging Face's tensor names of GPT-2, and folders in the layout of ``transformers``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from gpt2dsl.data.documents import read_json
from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import HEAD, SCORE, param_specs
from gpt2dsl.schema.folder import CONFIG, GENERATION, INDEX, WEIGHTS
from gpt2dsl.weights import defaults, store
from gpt2dsl.weights.defaults import Document
from gpt2dsl.weights.files import tensorfile
from gpt2dsl.weights.files.lazy_tensor import NAMES, ArrayTensor, LazyTensor, converted
from gpt2dsl.weights.formats.config import from_config, to_config
from gpt2dsl.weights.location import CheckpointLocation
from gpt2dsl.weights.network_weights import Weights

if TYPE_CHECKING:
    from gpt2dsl.data.tokenizer import Tokenizer

_PREFIX = "transformer."

# Causal masks, which old files contain as if they were weights.
_BUFFER = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")


def open_weights(
    place: CheckpointLocation,
    kind: str,
    tensors: Mapping[str, LazyTensor],
    training_state: tuple[str, ...],
) -> Weights:
    """Open a folder that transformers reads, or a checkpoint of ours.

    Raises:
        InputError: a file beside the tensors is absent (G2-301) or damaged (G2-304).
    """
    path = place.folder / CONFIG
    config = read_json(path)
    geometry = from_config(config, path)
    words = f"Hugging Face, {kind}"
    if place.checkpoint:
        words = f"checkpoint {place.checkpoint}" + (f", {kind}" if place.is_split else "")
    named = full_names(tensors, place.files[0])
    document = Document.of_json(path, config)
    try:
        stated = defaults.read(document, place.folder / GENERATION, geometry)
    except InputError:
        if place.checkpoint:  # the manifest tells a damaged file from an invalid one
            store.verify(place.folder, but=".safetensors")
        raise
    return Weights.of(
        place, words, geometry, named,
        config=config, defaults=stated, training_state=training_state,
    )  # fmt: skip


def full_names(stored: Mapping[str, LazyTensor], path: Path) -> dict[str, LazyTensor]:
    """Return tensors under the names of GPT2LMHeadModel, without causal masks.

    DistributedDataParallel prefixes each name with ``module.``, ``torch.compile`` with
    ``_orig_mod.``, a LightningModule with the name of its attribute, and GPT2Model alone has no
    ``transformer.``.

    Raises:
        InputError: two tensors get the same name (G2-304).
    """
    named: dict[str, LazyTensor] = {}
    outer = _wrapper(stored)
    for name, tensor in stored.items():
        inner = name.removeprefix(outer)
        full = inner if inner.startswith((_PREFIX, HEAD, SCORE)) else _PREFIX + inner
        if _BUFFER.fullmatch(full):
            continue
        if full in named:
            raise InputError("G2-304", path, f"{full} is in it under two names")
        named[full] = tensor
    return named


def _wrapper(names: Iterable[str]) -> str:
    """Return the prefix that wrapper modules add to names, taken from that of the wpe."""
    outer = [
        name.removesuffix("wpe.weight").removesuffix(_PREFIX)
        for name in names
        if name.endswith("wpe.weight")
    ]
    return outer[0] if len(outer) == 1 else ""


def write(
    folder: Path,
    geometry: GPT2Config,
    arrays: Mapping[str, NDArray[Any]],
    tokenizer: Tokenizer | None = None,
    classes: Sequence[str] = (),
    *,
    kind: str = "F32",
    source: Mapping[str, Any] | None = None,
    generation: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Write weights as a folder that ``transformers`` and this project read.

    Args:
        folder: the folder, from ``store.writing``.
        geometry: the network.
        arrays: the values of every parameter of ``param_specs``, by name.
        tokenizer: the tokenizer, written too.
        classes: names of a classifier's classes.
        kind: element type of the file.
        source: the network's original config.json.
        generation: the content of generation_config.json; None for token ids alone.

    Returns:
        File → checksum of each file with tensors, for ``store.writing``.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    expected = {tensor.name: tensor.shape for tensor in param_specs(geometry)}
    if shapes != expected:
        raise ValueError(f"not the network's tensors: {shapes.items() ^ expected.items()}")
    tensors = {name: converted(ArrayTensor.of(array), kind) for name, array in arrays.items()}
    write_beside(
        folder, geometry, tensors, tokenizer, classes, source=source, generation=generation
    )
    return write_tensors(folder, tensors)


def write_tensors(folder: Path, tensors: Mapping[str, LazyTensor]) -> dict[str, str]:
    """Write only the file of tensors; return file → checksum."""
    return {WEIGHTS: tensorfile.write(folder / WEIGHTS, tensors)}


def write_beside(
    folder: Path,
    geometry: GPT2Config,
    stored: Mapping[str, LazyTensor],
    tokenizer: Tokenizer | None = None,
    classes: Sequence[str] = (),
    *,
    source: Mapping[str, Any] | None = None,
    generation: Mapping[str, Any] | None = None,
) -> None:
    """Write all files of trained weights but those with tensors; arguments as in ``write``.

    config.json names the element type of most of ``stored``.
    """
    if tokenizer:
        tokenizer.save(folder, geometry.positions, pads=geometry.labels > 0)
    write_config(folder, config_of(geometry, tokenizer, classes, source), stored)
    if generation is not None:
        write_json(folder / GENERATION, generation)


def config_of(
    geometry: GPT2Config,
    tokenizer: Tokenizer | None,
    classes: Sequence[str] = (),
    source: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the config.json of trained weights; arguments as in ``write``."""
    config = to_config(geometry, tokenizer.eos if tokenizer else None, classes, source)
    if tokenizer:
        token_ids = {"bos": tokenizer.bos, "eos": tokenizer.eos, "pad": tokenizer.pad}
        ids = {f"{token}_token_id": i for token, i in token_ids.items() if i is not None}
        # The network's original ids win over the tokenizer's if they are within the vocabulary.
        config |= {
            key: i for key, i in ids.items() if (source or {}).get(key) not in range(geometry.vocab)
        }
    return config


def write_stored(
    folder: Path,
    config: Mapping[str, Any],
    stored: Mapping[str, LazyTensor],
    shard: int | None = None,
) -> dict[str, str]:
    """Write a folder of lazy tensors, each in its own element type, which config.json names.

    A file has at most ``shard`` bytes, unless a single tensor is larger; without it there is one
    file. Return file → checksum of each file with tensors.
    """
    write_config(folder, config, stored)
    shards = _shards(stored, shard)
    if len(shards) == 1:
        return write_tensors(folder, stored)
    index: dict[str, str] = {}
    digests = {}
    for i, names in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        digests[file] = tensorfile.write(folder / file, {name: stored[name] for name in names})
        index |= dict.fromkeys(names, file)
    total = sum(tensor.size for tensor in stored.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": index})
    return digests


def write_config(folder: Path, config: Mapping[str, Any], stored: Mapping[str, LazyTensor]) -> None:
    """Write config.json and generation_config.json; arguments as in ``write_stored``."""
    sizes: dict[str, int] = {}
    for tensor in stored.values():
        sizes[tensor.kind] = sizes.get(tensor.kind, 0) + tensor.size
    dtype = NAMES[max(sizes, key=lambda kind: sizes[kind])]
    special = {key: value for key, value in config.items() if key.endswith("_token_id")}
    write_json(folder / CONFIG, {**config, "torch_dtype": dtype, "dtype": dtype})
    write_json(folder / GENERATION, special)


def write_classes(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a config.json beside an adapter, for the class names that PEFT's files lack."""
    write_json(folder / CONFIG, config)


def _shards(stored: Mapping[str, LazyTensor], limit: int | None) -> list[list[str]]:
    """Return the names of the tensors of each shard."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in stored.items():
        if limit is not None and shards[-1] and size + tensor.size > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.size
    return shards


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file with transformers' formatting."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
