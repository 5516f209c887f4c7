"""Writers of weights in any format: block by block, and atomic."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data import tokenizer_files, tokenizer_settings
from gpt2dsl.errors import FileError, InputError, RunError
from gpt2dsl.files import atomic
from gpt2dsl.schema.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    GENERATION,
    INDEX,
    OPTIMIZER_STATE,
    TRAINING_STATE,
    WEIGHTS,
)
from gpt2dsl.weights import nearby, store
from gpt2dsl.weights.files import ckptfile
from gpt2dsl.weights.files.lazy_tensor import NAMES, LazyTensor, converted
from gpt2dsl.weights.formats import huggingface, mindformers, peft_writing, settings
from gpt2dsl.weights.formats.adapter import Adapter
from gpt2dsl.weights.formats.config import to_config
from gpt2dsl.weights.network_weights import Weights
from gpt2dsl.weights.stream_digest import Moved, StreamDigest

MINDFORMERS = "mindspore_model"
"""Stem of both files in a folder for MindFormers."""


_WRITTEN = (
    INDEX, CONFIG, GENERATION, ADAPTER_CONFIG, ADAPTER_WEIGHTS, OPTIMIZER_STATE, TRAINING_STATE,
    f"{MINDFORMERS}.ckpt", f"{MINDFORMERS}.yaml",
)  # fmt: skip
"""Files that a writer makes anew, or leaves out when asked to."""


def prepared(weights: Weights, tensors: Mapping[str, LazyTensor]) -> Weights:
    """Return weights to be written: with tensors derived from theirs, and a complete config.json.

    Raises:
        InputError: as in ``refuse_dropped``.
    """
    for source in (weights, weights.base) if weights.base else (weights,):
        place = source.location
        strategy = place.strategy.iterdir() if place.strategy else ()
        refuse_dropped(place.folder, (*place.files, *strategy))
    config = to_config(weights.geometry, source=weights.config)
    return attrs.evolve(weights, config=config, tensors=tensors)


def refuse_dropped(folder: Path, files: Iterable[Path]) -> None:
    """Raise an error if a manifest lists a file that no writer here knows, so that a copy lacks it.

    ``files`` are those with tensors or strategies.

    Raises:
        InputError: it names the first such file (G2-304).
    """
    if not (folder / store.MANIFEST).is_file():
        return
    known = {*files, *tokenizer_files.paths(folder).values()}
    known |= {folder / name for name in _WRITTEN}
    for name in store.manifest(folder)["files"]:
        if folder / name not in known:
            message = "this release does not know the file, and a copy would lack it"
            raise InputError("G2-304", folder / name, message)


def find_room(target: Path, size: int) -> None:
    """Raise an error before writing if the disk has too little room.

    Raises:
        RunError: fewer than ``size`` bytes are free.
    """
    parent = next(path for path in target.absolute().parents if path.exists())
    free = shutil.disk_usage(parent)[2]
    if size > free:
        unit, word = (1e9, "GB") if size >= 1e9 else (1e6, "MB")
        message = (
            f"{size / unit:.1f} {word} are to be written, {parent} has room for "
            f"{free / unit:.1f}: make room, or name a target on another disk"
        )
        raise FileError("G2-403", f"{target}: {message}")


def in_dtype(tensors: Mapping[str, LazyTensor], dtype: str) -> dict[str, LazyTensor]:
    """Return tensors converted to float32, float16 or bfloat16; "" keeps each one's type."""
    kinds = {name: kind for kind, name in NAMES.items()}
    return {
        name: converted(tensor, kinds[dtype] if dtype else _own(tensor))
        for name, tensor in tensors.items()
    }


def _own(tensor: LazyTensor) -> str:
    """Return a tensor's element type, with float64, in which nobody computes GPT-2, as float32."""
    return "F32" if tensor.kind == "F64" else tensor.kind


@contextmanager
def _digested(source: object, dtype: str, moved: Moved) -> Iterator[StreamDigest]:
    stream = StreamDigest(moved)
    yield stream
    stream.refuse(source, dtype)


@attrs.frozen
class Unfinished:
    """A folder that is being written, with the digest that its tensors pass through."""

    folder: Path
    stream: StreamDigest
    digests: dict[str, str]
    meta: dict[str, Any]


@contextmanager
def unfinished(
    target: Path, source: object, dtype: str, moved: Moved, *, replace: bool = False
) -> Iterator[Unfinished]:
    """Yield a folder that appears under its final name only if the block succeeds.

    Args:
        target: the folder.
        source: name of the source, for messages.
        dtype: the requested element type, for messages.
        moved: callback for the number of bytes read.
        replace: whether to replace an existing folder.

    Raises:
        InputError: a value is not finite (G2-306).
        RunError: the target exists already or can't be written.
    """
    digests: dict[str, str] = {}
    meta: dict[str, Any] = {"source": str(source)}
    with (
        store.writing(target, meta, digests, replace=replace) as folder,
        _digested(source, dtype, moved) as stream,
    ):
        yield Unfinished(folder, stream, digests, meta)


def to_hugging_face(
    target: Path,
    content: Weights,
    *,
    source: object,
    dtype: str,
    shard: int,
    moved: Moved,
    replace: bool = False,
) -> None:
    """Write a folder that transformers reads, in files of ``shard`` bytes; see ``unfinished``."""
    with unfinished(target, source, dtype, moved, replace=replace) as new:
        tensors = new.stream.over(content.tensors)
        new.digests.update(huggingface.write_stored(new.folder, content.config, tensors, shard))
        new.meta.update(digest=new.stream.digest(tensors))
        copy_beside(content, new.folder)


def to_mindformers(
    target: Path, content: Weights, *, source: object, dtype: str, moved: Moved
) -> None:
    """Write a .ckpt and its YAML, in a folder or, for a .ckpt, side by side; see ``unfinished``."""
    text = settings.yaml_of(content.geometry, content.config, content.defaults.generation)
    if target.suffix == ".ckpt":
        with _file(target) as path:
            with _digested(source, dtype, moved) as stream:
                ckptfile.write(path, mindformers.named(stream.over(content.tensors)))
            atomic.sync(path)
            atomic.write_file(target.with_suffix(".yaml"), lambda file: file.write(text))
            path.replace(target)
            atomic.sync(target.parent)
        return
    with unfinished(target, source, dtype, moved) as new:
        file = f"{MINDFORMERS}.ckpt"
        tensors = new.stream.over(content.tensors)
        new.digests[file] = ckptfile.write(new.folder / file, mindformers.named(tensors))
        new.meta.update(digest=new.stream.digest(tensors))
        (new.folder / f"{MINDFORMERS}.yaml").write_bytes(text)
        _copy(content.tokenizer, new.folder)


def to_peft(target: Path, adapter: Adapter, *, source: object, dtype: str, moved: Moved) -> None:
    """Write a folder that PEFT reads; see ``unfinished``."""
    with unfinished(target, source, dtype, moved) as new:
        watched = new.stream.over
        new.meta.update(nearby.noted(target, adapter.base))
        checksums = peft_writing.write(
            new.folder, adapter, lambda tensors: watched(in_dtype(tensors, dtype))
        )
        new.digests.update(checksums)
        if adapter.origin:
            refuse_dropped(adapter.origin.folder, ())
            _copy(adapter.origin.folder, new.folder)
            config = adapter.origin.folder / CONFIG
            if config.exists() and not (adapter.origin.folder / WEIGHTS).exists():
                shutil.copyfile(config, new.folder / CONFIG)


@contextmanager
def _file(target: Path) -> Iterator[Path]:
    """Yield a temporary file beside the target."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic.sweep(target.parent)
        for path in (target, target.with_suffix(".yaml")):
            if path.exists():
                raise RunError("G2-308", f"{path}: it is there already")
        with atomic.neighbour(target) as path:
            yield path
    except OSError as error:
        raise FileError.unwritable(target, error) from error


def copy_beside(content: Weights, folder: Path) -> None:
    """Write the tokenizer and the generation_config.json beside weights."""
    if content.defaults.file:
        shutil.copyfile(content.defaults.file, folder / GENERATION)
    elif content.defaults.generation is not None:
        huggingface.write_json(folder / GENERATION, content.defaults.generation)
    _copy(content.tokenizer, folder)


def _copy(tokenizer: Path | None, folder: Path) -> None:
    """Copy a tokenizer, with its class, which may only be named in a config.json not copied."""
    if not tokenizer:
        return
    files = tokenizer_files.read(tokenizer)
    named = tokenizer_settings.class_name(tokenizer)
    if named != tokenizer_settings.USUAL_CLASS:
        files = tokenizer_files.with_default(files, tokenizer_class=named)
    tokenizer_files.write(folder, files)
