"""Where weights are: a name → the files to read, without reading the tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data import cache
from gpt2dsl.errors import InputError
from gpt2dsl.weights import store

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
CHECKPOINTS = "checkpoints"

_LATER = (".bin", ".ckpt", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".mindir")


@attrs.frozen(kw_only=True)
class Place:
    """Where weights are.

    Attributes:
        path: the folder, or the file that was named.
        files: .safetensors, more than one where they are sharded.
        kind: what it is, in words.
        digest: of the weights, where a manifest has it.
        passed: newer checkpoints of the run that are damaged, and what is wrong with each.
    """

    path: Path
    files: tuple[Path, ...]
    kind: str = "safetensors"
    digest: str | None = None
    passed: tuple[InputError, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder, with config.json in it."""
        return self.files[0].parent

    @property
    def tokenizer(self) -> Path | None:
        """The folder, where it holds a tokenizer too."""
        names = ("tokenizer.json", "vocab.json")
        return self.folder if any((self.folder / name).exists() for name in names) else None


def find(name: str | Path, *, contents: bool = True) -> Place:
    """Where the weights of a name are.

    Args:
        name: a Hugging Face folder or .safetensors file, or a checkpoint or run of ours.
        contents: whether a checkpoint's checksums are compared, as in ``store.verify``.

    Raises:
        InputError: it is absent (G2-301), empty (G2-302), damaged or of another kind (G2-304).
    """
    path = cache.expanded(name)
    try:
        if path.is_dir():
            return _in_folder(path, contents=contents)
        if path.exists():
            _refuse_other(path)
            return Place(path=path, files=(path,))
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror}") from error
    raise InputError("G2-301", name, "there is no such file or folder")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: it is absent (G2-301), empty (G2-302), damaged or unreadable (G2-304).
    """
    try:
        text = path.read_bytes()
        if not text.strip():
            raise InputError("G2-302", path, "the file is empty")
        content = json.loads(text)
    except FileNotFoundError as error:
        raise InputError("G2-301", path, "it is not there, and the weights need it") from error
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError("G2-304", path, f"it is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError("G2-304", path, "it is not a JSON object")
    return content


def _in_folder(folder: Path, *, contents: bool) -> Place:
    if (folder / store.MANIFEST).exists():
        return _checkpoint(folder, contents=contents)
    run = (folder / CHECKPOINTS).is_dir()
    if (run or store.steps(folder)) and not (folder / CONFIG).exists():
        inner = folder / CHECKPOINTS if run else folder
        newest = store.newest(inner, contents=contents)
        if newest.folder:
            return attrs.evolve(_checkpoint(newest.folder, contents=False), passed=newest.passed)
        raise (
            newest.passed[0]
            if newest.passed
            else InputError("G2-301", inner, "the run has no checkpoint")
        )
    files = _files(folder)
    if not (folder / CONFIG).exists():
        raise InputError("G2-301", folder / CONFIG, "it is not there, and the weights need it")
    return Place(path=folder, files=files)


def _checkpoint(folder: Path, *, contents: bool) -> Place:
    store.verify(folder, contents=contents)
    manifest = store.manifest(folder)
    known = manifest["files"].get(WEIGHTS)
    return Place(
        path=folder,
        files=_files(folder),
        kind=f"checkpoint {folder.name}",
        digest=known["sha256"] if known else None,
    )


def _files(folder: Path) -> tuple[Path, ...]:
    if (folder / WEIGHTS).exists():
        return (folder / WEIGHTS,)
    if (folder / INDEX).exists():
        return _shards(folder)
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if not found:
        raise InputError("G2-302", folder, "the folder is empty")
    for path in found:
        if path.is_file():
            _refuse_other(path)
    raise InputError("G2-301", folder / WEIGHTS, "there is no such file")


def _shards(folder: Path) -> tuple[Path, ...]:
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise InputError("G2-304", folder / INDEX, "it has no weight_map")
    names = {str(name) for name in index.values()}
    if wrong := sorted(name for name in names if Path(name).name != name):
        raise InputError("G2-304", folder / INDEX, f"{wrong[0]!r} is no file of this folder")
    return tuple(folder / name for name in sorted(names))


def _refuse_other(path: Path) -> None:
    if path.suffix in _LATER:
        raise InputError(
            "G2-304", path, f"{path.suffix} files are not read yet; {WEIGHTS} is expected"
        )
