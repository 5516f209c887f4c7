"""Hugging Face's names of GPT-2's tensors, and folders that ``transformers`` reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import HEAD, SCORE, param_specs
from gpt2dsl.weights import location
from gpt2dsl.weights.files import tensorfile
from gpt2dsl.weights.files.lazy_tensor import NAMES, ArrayTensor, LazyTensor, converted
from gpt2dsl.weights.formats.config import to_config

if TYPE_CHECKING:
    from gpt2dsl.data.tokenizer import Tokenizer

_PREFIX = "transformer."

# Causal masks, which old files hold as if they were weights.
_BUFFER = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")


def full_names(stored: Mapping[str, LazyTensor], path: Path) -> dict[str, LazyTensor]:
    """Tensors under the names that GPT2LMHeadModel gives them; causal masks are left out.

    Args:
        stored: the tensors of a file; DistributedDataParallel puts ``module.`` before each name,
            ``torch.compile`` ``_orig_mod.``, a LightningModule the name of its attribute, and
            GPT2Model alone has no ``transformer.``.
        path: the file, for messages.

    Raises:
        InputError: two of them have one name (G2-304).
    """
    found: dict[str, LazyTensor] = {}
    outer = _wrapper(stored)
    for name, tensor in stored.items():
        inner = name.removeprefix(outer)
        full = inner if inner.startswith((_PREFIX, HEAD, SCORE)) else _PREFIX + inner
        if _BUFFER.fullmatch(full):
            continue
        if full in found:
            raise InputError("G2-304", path, f"{full} is in it under two names")
        found[full] = tensor
    return found


def _wrapper(names: Iterable[str]) -> str:
    """Return what modules around the network put before its names: what is before its positions."""
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
    """Write a folder that ``transformers`` reads, and this project too.

    Args:
        folder: as ``store.writing`` gives it.
        geometry: the network.
        arrays: every tensor of ``layout.tensors``, by its name there.
        tokenizer: written beside them.
        classes: names of a classifier's classes.
        kind: element type of the file.
        source: the config.json that the network came with.
        generation: generation_config.json; None for one that says little.

    Returns:
        File → checksum of those whose checksum is known, for ``store.writing``.

    Raises:
        OSError: the disk is full or can't be written; ``store.writing`` makes it a RunError.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    expected = {tensor.name: tensor.shape for tensor in param_specs(geometry)}
    if shapes != expected:
        raise ValueError(f"not the network's tensors: {shapes.items() ^ expected.items()}")
    held = {name: converted(ArrayTensor.of(array), kind) for name, array in arrays.items()}
    if tokenizer:
        tokenizer.save(folder, geometry.positions, pads=geometry.labels > 0)
    digests = write_stored(folder, config_of(geometry, tokenizer, classes, source), held)
    if generation is not None:
        write_json(folder / location.GENERATION, generation)
    return digests


def config_of(
    geometry: GPT2Config,
    tokenizer: Tokenizer | None,
    classes: Sequence[str] = (),
    source: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the config.json of weights that were trained; the arguments are those of ``write``."""
    config = to_config(geometry, tokenizer.eos if tokenizer else None, classes, source)
    if tokenizer:
        own = {"bos": tokenizer.bos, "eos": tokenizer.eos, "pad": tokenizer.pad}
        ids = {f"{token}_token_id": i for token, i in own.items() if i is not None}
        # What the network came with says more than its tokenizer does, unless its table lacks it.
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
    """Write a folder of tensors that are not in memory, each in its own element type.

    Args:
        folder: as ``store.writing`` gives it.
        config: the content of config.json; the element type is added.
        stored: the tensors.
        shard: bytes of a file at most, unless one tensor has more; None for one file.

    Returns:
        File → checksum of those that hold tensors.

    Raises:
        OSError: the disk is full or can't be written.
    """
    write_config(folder, config, stored)
    shards = _shards(stored, shard)
    if len(shards) == 1:
        return {location.WEIGHTS: tensorfile.write(folder / location.WEIGHTS, stored)}
    index: dict[str, str] = {}
    digests = {}
    for i, names in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        digests[file] = tensorfile.write(folder / file, {name: stored[name] for name in names})
        index |= dict.fromkeys(names, file)
    total = sum(tensor.size for tensor in stored.values())
    write_json(folder / location.INDEX, {"metadata": {"total_size": total}, "weight_map": index})
    return digests


def write_config(folder: Path, config: Mapping[str, Any], stored: Mapping[str, LazyTensor]) -> None:
    """Write config.json and generation_config.json of tensors; else as ``write_stored``."""
    sizes: dict[str, int] = {}
    for tensor in stored.values():
        sizes[tensor.kind] = sizes.get(tensor.kind, 0) + tensor.size
    dtype = NAMES[max(sizes, key=lambda kind: sizes[kind])]
    special = {key: value for key, value in config.items() if key.endswith("_token_id")}
    write_json(folder / location.CONFIG, {**config, "torch_dtype": dtype, "dtype": dtype})
    write_json(folder / location.GENERATION, special)


def write_classes(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the config.json of an adapter's classifier, whose names PEFT's own files leave out."""
    write_json(folder / location.CONFIG, config)


def _shards(stored: Mapping[str, LazyTensor], limit: int | None) -> list[list[str]]:
    """Return the names of each file's tensors."""
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
    """Write a JSON file as transformers lays it out."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
