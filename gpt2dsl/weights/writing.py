"""Weights into any format, a block at a time, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data import tokenizer_files, tokenizer_settings
from gpt2dsl.errors import RunError
from gpt2dsl.files import atomic
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.weights import location, nearby, store
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.files import ckptfile
from gpt2dsl.weights.files.lazy_tensor import NAMES, LazyTensor, converted
from gpt2dsl.weights.formats import huggingface, mindformers, peft_writing, settings
from gpt2dsl.weights.formats.adapter import Adapter
from gpt2dsl.weights.formats.config import to_config
from gpt2dsl.weights.reading import Weights
from gpt2dsl.weights.stream_digest import Moved, StreamDigest

MINDFORMERS = "mindspore_model"
"""The name of both files in a folder that MindFormers writes and reads."""


@attrs.frozen(kw_only=True)
class Content:
    """What is to be written.

    Attributes:
        geometry: the network.
        config: config.json.
        tensors: in the order of the forward pass.
        tokenizer: the folder of the tokenizer, which is copied.
        defaults: what their files say of generation, which is written beside them.
    """

    geometry: GPT2Config
    config: Mapping[str, Any] = attrs.field(repr=False)
    tensors: Mapping[str, LazyTensor] = attrs.field(repr=False)
    tokenizer: Path | None
    defaults: Defaults = attrs.field(factory=Defaults, repr=False)

    @classmethod
    def of(cls, weights: Weights, tensors: Mapping[str, LazyTensor]) -> Content:
        """Weights that were read, with tensors that are made of theirs."""
        return cls(
            geometry=weights.geometry,
            config=to_config(weights.geometry, source=weights.config),
            tensors=tensors,
            tokenizer=weights.tokenizer,
            defaults=weights.defaults,
        )

    @property
    def size(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.size for tensor in self.tensors.values())


def find_room(target: Path, size: int) -> None:
    """Refuse what does not fit on the disk before any of it is written.

    Raises:
        RunError: there is less room than ``size`` bytes.
    """
    parent = next(path for path in target.absolute().parents if path.exists())
    free = shutil.disk_usage(parent)[2]
    if size > free:
        unit, word = (1e9, "GB") if size >= 1e9 else (1e6, "MB")
        message = (
            f"{size / unit:.1f} {word} are to be written, {parent} has room for "
            f"{free / unit:.1f}: make room, or name a target on another disk"
        )
        raise RunError(f"{target}: {message}")


def in_dtype(tensors: Mapping[str, LazyTensor], dtype: str) -> dict[str, LazyTensor]:
    """Tensors in an element type: float32, float16, bfloat16, or "" for each one's own."""
    kinds = {name: kind for kind, name in NAMES.items()}
    return {
        name: converted(tensor, kinds[dtype] if dtype else _own(tensor))
        for name, tensor in tensors.items()
    }


def _own(tensor: LazyTensor) -> str:
    """Nobody computes GPT-2 in float64: what came in it leaves in float32."""
    return "F32" if tensor.kind == "F64" else tensor.kind


@contextmanager
def _watched(source: object, dtype: str, moved: Moved) -> Iterator[StreamDigest]:
    watch = StreamDigest(moved)
    yield watch
    watch.refuse(source, dtype)


@attrs.frozen
class Unfinished:
    """A folder that is being written.

    Attributes:
        folder: to write into.
        watch: what the tensors are to pass.
        digests: file → checksum where it is known.
        meta: what its manifest says besides.
    """

    folder: Path
    watch: StreamDigest
    digests: dict[str, str]
    meta: dict[str, Any]


@contextmanager
def unfinished(target: Path, source: object, dtype: str, moved: Moved) -> Iterator[Unfinished]:
    """Yield a folder that is whole at the end of the block, or not there.

    Args:
        target: the folder.
        source: where it comes from, for messages.
        dtype: that was asked for, for messages.
        moved: is told of the bytes.

    Raises:
        InputError: a value is not finite (G2-306).
        RunError: the target is there already or can't be written.
    """
    digests: dict[str, str] = {}
    meta: dict[str, Any] = {"source": str(source)}
    with (
        store.writing(target, meta, digests) as folder,
        _watched(source, dtype, moved) as watch,
    ):
        yield Unfinished(folder, watch, digests, meta)


def to_hugging_face(
    target: Path, content: Content, *, source: object, dtype: str, shard: int, moved: Moved
) -> None:
    """Write a folder that transformers reads.

    Args:
        target: the folder.
        content: what is to be written.
        source: where it comes from, for messages.
        dtype: that was asked for, for messages.
        shard: bytes of a file at most.
        moved: is told of the bytes.

    Raises:
        InputError: a value is not finite (G2-306).
        RunError: the target is there already or can't be written.
    """
    with unfinished(target, source, dtype, moved) as new:
        tensors = new.watch.over(content.tensors)
        new.digests.update(huggingface.write_stored(new.folder, content.config, tensors, shard))
        new.meta.update(digest=new.watch.digest(tensors))
        copy_beside(content, new.folder)


def to_mindformers(
    target: Path, content: Content, *, source: object, dtype: str, moved: Moved
) -> None:
    """Write a .ckpt and the YAML that belongs to it, both in a folder, or beside each other.

    Args:
        target: a folder, or a file where it ends in .ckpt.
        content: what is to be written.
        source: where it comes from, for messages.
        dtype: that was asked for, for messages.
        moved: is told of the bytes.

    Raises:
        InputError: a value is not finite (G2-306).
        RunError: the target is there already or can't be written.
    """
    text = settings.yaml_of(content.geometry, content.config, content.defaults.generation)
    if target.suffix == ".ckpt":
        with _file(target) as path:
            with _watched(source, dtype, moved) as watch:
                ckptfile.write(path, mindformers.named(watch.over(content.tensors)))
            atomic.sync(path)
            atomic.write_file(target.with_suffix(".yaml"), lambda file: file.write(text))
            path.replace(target)
            atomic.sync(target.parent)
        return
    with unfinished(target, source, dtype, moved) as new:
        file = f"{MINDFORMERS}.ckpt"
        tensors = new.watch.over(content.tensors)
        new.digests[file] = ckptfile.write(new.folder / file, mindformers.named(tensors))
        new.meta.update(digest=new.watch.digest(tensors))
        (new.folder / f"{MINDFORMERS}.yaml").write_bytes(text)
        _copy(content.tokenizer, new.folder)


def to_peft(target: Path, adapter: Adapter, *, source: object, dtype: str, moved: Moved) -> None:
    """Write a folder that PEFT reads.

    Args:
        target: the folder.
        adapter: what is to be written.
        source: where it comes from, for messages.
        dtype: that is asked for, "" for each tensor's own.
        moved: is told of the bytes.

    Raises:
        InputError: a value is not finite (G2-306).
        RunError: the target is there already or can't be written.
    """
    with unfinished(target, source, dtype, moved) as new:
        watched = new.watch.over
        new.meta.update(nearby.noted(target, adapter.base))
        written = peft_writing.write(
            new.folder, adapter, lambda held: watched(in_dtype(held, dtype))
        )
        new.digests.update(written)
        if adapter.origin:
            _copy(adapter.origin.folder, new.folder)
            config = adapter.origin.folder / location.CONFIG
            if config.exists() and not (adapter.origin.folder / location.WEIGHTS).exists():
                shutil.copyfile(config, new.folder / location.CONFIG)


@contextmanager
def _file(target: Path) -> Iterator[Path]:
    """Yield a neighbour of the file to write into."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic.sweep(target.parent)
        for path in (target, target.with_suffix(".yaml")):
            if path.exists():
                raise RunError(f"{path}: it is there already")
        with atomic.neighbour(target) as path:
            yield path
    except OSError as error:
        raise RunError(f"{target}: it can't be written: {error.strerror or error}") from error


def copy_beside(content: Content, folder: Path) -> None:
    """The tokenizer and the generation_config.json of what is written."""
    if content.defaults.file:
        shutil.copyfile(content.defaults.file, folder / location.GENERATION)
    elif content.defaults.generation is not None:
        huggingface.write_json(folder / location.GENERATION, content.defaults.generation)
    _copy(content.tokenizer, folder)


def _copy(tokenizer: Path | None, folder: Path) -> None:
    """Copy a tokenizer, with its class where only a config.json names it, which may stay behind."""
    if not tokenizer:
        return
    files = tokenizer_files.kept(tokenizer)
    named = tokenizer_settings.class_name(tokenizer)
    if named != tokenizer_settings.USUAL_CLASS:
        files = tokenizer_files.with_default(files, tokenizer_class=named)
    tokenizer_files.write(folder, files)
