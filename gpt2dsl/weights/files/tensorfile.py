"""The .safetensors format: a JSON header with the offsets of the tensors, then their bytes.

The safetensors library validates files; it has no bfloat16 for NumPy and builds whole files in
memory, so that this module reads and writes the bytes itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt2dsl.errors import InputError
from gpt2dsl.schema import safetensors_metadata
from gpt2dsl.schema.fate import KeyFate, fates, refuse
from gpt2dsl.weights.files.hashing import HashedFile, hashed
from gpt2dsl.weights.files.lazy_tensor import FileTensor, LazyTensor


def stored(path: Path) -> dict[str, LazyTensor]:
    """Return the tensors of a file by name, including those tied to another by its metadata.

    Raises:
        InputError: it is absent (G2-301), empty (G2-302), damaged or unreadable (G2-304).
        InputError: its tensors belong to another library (G2-313).
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  # plans may need none

    try:
        if not path.exists():
            raise InputError("G2-301", path, "there is no such file")
        if path.is_file() and path.stat().st_size == 0:
            raise InputError("G2-302", path, "the file is empty")
        with safe_open(path, "numpy"):  # Checks the header against the file.
            pass
        header, start = _read_header(path)
    except SafetensorError as error:
        raise InputError("G2-304", path, f"it is no whole safetensors file: {error}") from error
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror or error}") from error
    entries = header.pop("__metadata__", None) or {}
    refuse(fates(path, entries, safetensors_metadata.table(entries, header)))
    tensors: dict[str, LazyTensor] = {
        name: FileTensor.at(
            entry["dtype"], tuple(entry["shape"]), path, start + entry["data_offsets"][0]
        )
        for name, entry in header.items()
    }
    tied = safetensors_metadata.tied(entries, header)
    return tensors | {name: tensors[target] for name, target in tied.items()}


def metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file that ``stored`` accepted."""
    entries: dict[str, str] = _read_header(path)[0].get("__metadata__") or {}
    return entries


def metadata_fates(path: Path) -> Iterator[KeyFate]:
    """Yield the fate of each key of a file's metadata."""
    header, _ = _read_header(path)
    entries = header.pop("__metadata__", None) or {}
    yield from fates(path, entries, safetensors_metadata.table(entries, header))


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return a file's header, and the offset of its first tensor."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    return header, 8 + length


def write(path: Path, tensors: Mapping[str, LazyTensor], **entries: str) -> str:
    """Write tensors in the given order, marked as PyTorch's, as transformers expects.

    Only one block is in memory at a time; ``entries`` are metadata.

    Returns:
        The file's checksum.

    Raises:
        OSError: the disk is full or not writable; ``store.writing`` turns it into a RunError.
    """
    with begun(path, tensors, **entries) as file:
        for tensor in tensors.values():
            for block in tensor.blocks():
                file.write(block.data)
    return file.checksum()


@contextmanager
def begun(path: Path, tensors: Mapping[str, LazyTensor], **entries: str) -> Iterator[HashedFile]:
    """Create a file, write its header with ``entries`` as metadata, and yield it for the tensors.

    Raises:
        OSError: as in ``write``.
    """
    with hashed(path) as file:
        file.write(_header(tensors, entries))
        yield file


def _header(tensors: Mapping[str, LazyTensor], entries: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **entries}}
    offset = 0
    for name, tensor in tensors.items():
        offsets = [offset, offset + tensor.size]
        header[name] = {"dtype": tensor.kind, "shape": tensor.shape, "data_offsets": offsets}
        offset += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # Aligns the tensors to eight bytes.
    return len(text).to_bytes(8, "little") + text
