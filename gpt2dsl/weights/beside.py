"""Fates of the files in a folder of weights, and of their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data import tokenizer_files
from gpt2dsl.data.documents import read_json
from gpt2dsl.errors import InputError
from gpt2dsl.schema import (
    adapter_config,
    added_tokens,
    config,
    generation_config,
    special_tokens_map,
    tokenizer_config,
    tokenizer_json,
)
from gpt2dsl.schema.fate import Fate, KeyFate, Table, fates, shown
from gpt2dsl.schema.folder import (
    ADAPTER_CONFIG,
    CONFIG,
    GENERATION,
    OPTIMIZER_STATE,
    TRAINING_STATE,
    file_row,
)
from gpt2dsl.weights import store
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.files import tensorfile, torchfile
from gpt2dsl.weights.formats import nanogpt
from gpt2dsl.weights.location import CheckpointLocation

TABLES: Mapping[str, Table] = {
    CONFIG: config.TABLE,
    GENERATION: generation_config.TABLE,
    ADAPTER_CONFIG: adapter_config.TABLE,
    "tokenizer.json": tokenizer_json.TABLE,
    "tokenizer_config.json": tokenizer_config.TABLE,
    "special_tokens_map.json": special_tokens_map.TABLE,
    "added_tokens.json": added_tokens.TABLE,
}
"""File name → table of its keys."""

LARGEST_VALUE = 1000
"""Maximum characters of a value printed in full; a vocabulary has a million."""

_NOT_DECIDING = (store.MANIFEST, OPTIMIZER_STATE, TRAINING_STATE)


@attrs.frozen
class FileFate:
    """The fate of one file of a folder.

    Attributes:
        path: the file, or a folder within the folder.
        fate: used, no effect, unknown, or refused if it is damaged.
        words: its use, the reason why it has no effect, or the fault.
        keys: the fates of its keys, if it has keys.
    """

    path: Path
    fate: Fate
    words: str
    keys: tuple[KeyFate, ...] = ()

    @property
    def unknown(self) -> Iterator[str]:
        """A line for the file if it is unknown, and for each unknown key."""
        if self.fate == "unknown":
            yield f"{self.path.name}: {self.words}"
        yield from (str(key) for key in self.keys if key.fate == "unknown")


def fates_of(weights: CheckpointLocation) -> list[FileFate]:
    """Return the fate of each file in the folder of weights, sorted by name.

    If a single file was named, only the files read beside it are included.
    """
    paths = sorted(weights.folder.iterdir())
    if not weights.path.is_dir():
        paths = [path for path in paths if path in weights.files or path.name in TABLES]
    return [_fate(weights, path) for path in paths]


def for_texts(file: FileFate, defaults: Defaults) -> FileFate:
    """Return a file's fate with those of its generation settings, as they apply to generation."""
    refused = {(key.path.name, key.key): key for key in defaults.refused}
    keys = (refused.get((key.path.name, key.key), key) for key in file.keys)
    if file.path.name == CONFIG and defaults.file:
        words = f"{defaults.file.name} goes before"
        keys = (
            attrs.evolve(key, fate="no effect", words=words)
            if key.key in config.SETTINGS and key.fate == "used"
            else key
            for key in keys
        )
    return attrs.evolve(file, keys=tuple(keys))


def deciding(weights: CheckpointLocation) -> list[tuple[str, Path]]:
    """Return every file that determines the weights, under its role.

    A manifest and training state are left out: they only record how the weights came about.
    """
    tensors = [(f"tensors {i}", path) for i, path in enumerate(weights.files)]
    if not weights.folder.is_dir():
        return tensors
    strategy = sorted(weights.strategy.iterdir()) if weights.strategy else []
    read = {
        path.name: path
        for path in sorted(weights.folder.iterdir())
        if path.is_file() and path not in weights.files and _decides(path.name)
    }
    # Files that are only copied are part of the result too.
    others = read | tokenizer_files.paths(weights.folder)
    return [*tensors, *((f"strategy {path.name}", path) for path in strategy), *others.items()]


def _decides(name: str) -> bool:
    row = file_row(name)
    return row is not None and row.fate == "used" and name not in _NOT_DECIDING


def _fate(weights: CheckpointLocation, path: Path) -> FileFate:
    if path in weights.files:
        return FileFate(path, "used", "tensors", tuple(_of_metadata(path)))
    if weights.index and path.name.endswith(".index.json"):
        return FileFate(path, "used", "which file each tensor is in")
    row = file_row(path.name)
    if row is None:
        return FileFate(path, "unknown", "nobody knows this file; it is not read")
    table = TABLES.get(path.name)
    if table is None:
        return FileFate(path, row.fate, row.words)
    try:
        content = read_json(path)
    except InputError as error:  # Only reported here; readers of the file raise it.
        return FileFate(path, "refused", error.faults[0].message)
    if table is tokenizer_json.TABLE:
        content = tokenizer_json.flattened(content)
    return FileFate(path, row.fate, row.words, tuple(fates(path, content, table)))


def _of_metadata(path: Path) -> Iterator[KeyFate]:
    """Yield the fate of each key of a safetensors file's metadata, or of nanoGPT's checkpoint."""
    if path.suffix == ".safetensors":
        yield from tensorfile.metadata_fates(path)
    if path.suffix == ".pt" and nanogpt.is_nanogpt(document := torchfile.opened(path).document):
        yield from nanogpt.key_fates(document, path)


def to_json(files: list[FileFate]) -> dict[str, Any]:
    """Return each file's fate and those of its keys, as JSON values."""
    return {
        file.path.name: {
            "fate": file.fate,
            "words": file.words,
            "keys": {
                key.key: {"value": _brief(key.value), "fate": key.fate, "words": key.words}
                for key in file.keys
            },
        }
        for file in files
    }


def _brief(value: Any) -> Any:
    return value if len(repr(value)) <= LARGEST_VALUE else shown(value)
