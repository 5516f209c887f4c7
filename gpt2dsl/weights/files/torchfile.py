"""PyTorch's .bin format: a pickle, which could run any code, so torch's own guard loads it."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl import extras
from gpt2dsl.errors import InputError
from gpt2dsl.weights.files.lazy_tensor import STORAGE, ArrayTensor, FileTensor, LazyTensor, Whole

_KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""Prefix of files that torch wrote before version 1.6: the pickled magic number."""


def is_torch(start: bytes) -> bool:
    """Return whether a file with this prefix is a torch file."""
    return start.startswith((b"PK\x03\x04", _LEGACY))


@attrs.frozen
class Checkpoint:
    """The content of a torch file: the model's tensors by name, and the other entries."""

    tensors: dict[str, LazyTensor]
    document: dict[str, Any]


def stored(path: Path) -> dict[str, LazyTensor]:
    """Return the tensors of a file by name; errors as in ``opened``."""
    return opened(path).tensors


def opened(path: Path) -> Checkpoint:
    """Return the content of a file, unpickling only tensors and containers.

    Tensors are not read here, except from files of torch before 1.6, whose tensors can only be
    located by reading them: those are in memory.

    Raises:
        InputError: torch is not installed, or the file is damaged, or contains something other
            than tensors (G2-304).
    """
    try:
        with path.open("rb") as file:
            legacy = file.read(len(_LEGACY)) == _LEGACY
        content = _loaded(path, legacy=legacy)
    except pickle.UnpicklingError as error:
        raise InputError("G2-304", path, f"refused unrun: {_reason(error)}") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, TypeError) as error:
        raise InputError("G2-304", path, f"it is no whole PyTorch file: {_line(error)}") from error
    except (AttributeError, IndexError, AssertionError, ImportError, OverflowError) as error:
        raise InputError("G2-304", path, f"its pickle is damaged: {_line(error)}") from error
    model, document = _model(path, content)
    places = {} if legacy else _places(path, _tensors_in(content))
    tensors = {name: _tensor(path, tensor, places) for name, tensor in model.items()}
    return Checkpoint(tensors, document)


_MODELS = ("state_dict", "model_state_dict", "model", "module")
"""Keys of the model's tensors in checkpoints of Lightning, PyTorch loops, nanoGPT, DeepSpeed."""


def _model(path: Path, content: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the model's tensors by name, and the other entries of the file.

    Raises:
        InputError: the file contains no model, or two (G2-304).
    """
    document: dict[str, Any] = {}
    if isinstance(content, dict):
        models = [key for key in _MODELS if isinstance(content.get(key), dict)]
        if len(models) > 1:
            message = f"it holds {' and '.join(models)}: save the one that is meant by itself"
            raise InputError("G2-304", path, message)
        if models:
            document = {key: value for key, value in content.items() if key != models[0]}
            content = content[models[0]]
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError("G2-304", path, "it holds no tensors by name")
    for name, tensor in content.items():
        if not hasattr(tensor, "untyped_storage"):
            message = (
                f"{name} is no tensor, but {type(tensor).__name__}; of a training's checkpoint "
                f"save the model's state_dict() alone"
            )
            raise InputError("G2-304", path, message)
    return content, document


def _tensors_in(content: Any) -> Iterator[Any]:
    """Yield every tensor of a file, at any depth."""
    if hasattr(content, "untyped_storage"):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _tensors_in(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _tensors_in(value)


def _loaded(path: Path, *, legacy: bool) -> Any:
    try:
        import torch  # noqa: PLC0415  # an extra, and slow to import
    except ImportError:
        message = f"reading it needs torch 2.10 or newer: {extras.install('torch')}"
        raise InputError("G2-304", path, message) from None
    return torch.load(path, map_location="cpu", weights_only=True, mmap=not legacy)


def _places(path: Path, tensors: Iterable[Any]) -> dict[int, int]:
    """Return the address of each storage → its offset in the file; {} if that is not certain.

    Torch does not expose the start of its mapping. Storage addresses and offsets of the archive's
    records must differ by one constant, the start, for all storages.
    """
    storages = {s.data_ptr(): s.nbytes() for t in tensors if (s := t.untyped_storage()).nbytes()}
    try:
        records = _records(path)
    except (zipfile.BadZipFile, struct.error):
        return {}
    if not storages or not records:
        return {}
    start = min(storages) - min(records)
    moved = {address - start: size for address, size in storages.items()}
    return {offset + start: offset for offset in records} if moved == records else {}


def _records(path: Path) -> dict[int, int]:
    """Return the offset → size of the tensors' bytes in torch's archive, a zip file."""
    sizes = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for record in archive.infolist():
            if "/data/" not in record.filename or not record.file_size:
                continue
            # The local header's name and padding precede the bytes.
            file.seek(record.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            offset = record.header_offset + 30 + name + extra
            # A compressed record can't be read in place.
            sizes[offset] = -1 if record.compress_type else record.file_size
    return sizes


def _tensor(path: Path, tensor: Any, places: dict[int, int]) -> LazyTensor:
    """Return a tensor in the file, or in memory if its offset is not known."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    kind, shape = _KINDS.get(dtype, dtype), tuple(tensor.shape)
    if kind not in STORAGE:
        return FileTensor.at(kind, shape, path, 0)
    offset = places.get(tensor.untyped_storage().data_ptr())
    if offset is None:
        return ArrayTensor(kind, shape, _array(tensor, kind))
    start = offset + tensor.storage_offset() * tensor.element_size()
    if tensor.is_contiguous():
        return FileTensor.at(kind, shape, path, start)
    span = 1 + sum((n - 1) * s for n, s in zip(shape, tensor.stride(), strict=True))
    return Strided(kind, shape, FileTensor.at(kind, (span,), path, start), tensor.stride())


def _array(tensor: Any, kind: str) -> NDArray[Any]:
    """Return a tensor's values; bfloat16, which NumPy lacks, as its raw bits."""
    import torch  # noqa: PLC0415  # an extra; the caller has imported it

    bits = tensor.detach().contiguous()
    array: NDArray[Any] = (bits.view(torch.int16) if kind == "BF16" else bits).numpy()
    return array.view(STORAGE[kind])


@attrs.frozen(eq=False)
class Strided(Whole):
    """A tensor that is not contiguous in its file, such as a transposed one."""

    of: FileTensor
    strides: tuple[int, ...]

    def make(self) -> NDArray[Any]:
        """Return the whole tensor, contiguous."""
        flat = self.of.rows(0, self.of.shape[0])
        steps = [stride * flat.itemsize for stride in self.strides]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, self.shape, steps))


def _reason(error: Exception) -> str:
    """Return the reason from torch's message, without its advice on how to load the file anyway."""
    for line in _lines(error):
        if "Unsupported" in line or "GLOBAL" in line or "Trying to" in line:
            return line.strip()
    return _line(error)


def _line(error: Exception) -> str:
    return next(_lines(error), type(error).__name__)[:200]


def _lines(error: Exception) -> Iterator[str]:
    return (line for line in str(error).splitlines() if line.strip())
