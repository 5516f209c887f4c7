"""One .safetensors file: its tensors mapped, each converted to float32 when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.errors import InputError

Array = NDArray[np.float32]

_DTYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


@attrs.frozen(eq=False)
class Stored:
    """A tensor as it lies in the file.

    Attributes:
        kind: the format's name of its element type.
        shape: its shape.
        data: its bytes, mapped.
    """

    kind: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8] = attrs.field(repr=False)

    @property
    def readable(self) -> bool:
        """Whether its elements are floats of a kind that is read here."""
        return self.kind in _DTYPES

    def load(self) -> Array:
        """Its values as float32, read-only where no conversion was needed."""
        raw = self.data.view(_DTYPES[self.kind]).reshape(self.shape)
        if self.kind == "BF16":
            # bfloat16 is the upper half of a float32.
            widened: Array = (raw.astype(np.uint32) << 16).view(np.float32)
            return widened
        with np.errstate(over="ignore"):  # A float64 too large becomes inf, which readers refuse.
            values: Array = raw.astype(np.float32, copy=not raw.flags.aligned)
        return values


class Arrays(Mapping[str, Array]):
    """Tensors by name; each access reads the file, so that no more is in memory than is wanted."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> Array:
        return self._stored[name].load()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def stored(path: Path) -> dict[str, Stored]:
    """The tensors of a file.

    Raises:
        InputError: it is absent (G2-301), empty (G2-302), damaged or unreadable (G2-304).
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  # plans may need none

    try:
        if not path.exists():
            raise InputError("G2-301", path, "there is no such file")
        if path.is_file() and path.stat().st_size == 0:
            raise InputError("G2-302", path, "the file is empty")
        with safe_open(path, "numpy"):  # It checks the header against the file.
            pass
        # The library gives no bfloat16 to NumPy, and copies; the header is simple.
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(start - 8))
        whole = np.memmap(path, np.uint8, "r")
    except SafetensorError as error:
        raise InputError("G2-304", path, f"it is no whole safetensors file: {error}") from error
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror or error}") from error
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        data = np.asarray(whole[start + first : start + last])
        found[name] = Stored(entry["dtype"], tuple(entry["shape"]), data)
    return found


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes tensors as float32, in the format's form for PyTorch, as transformers expects.

    Raises:
        OSError: the disk is full or can't be written; ``store.writing`` makes it a RunError.
    """
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import save_file  # noqa: PLC0415

    # The library takes the memory as it lies: what is transposed must be laid out anew.
    whole = {
        name: np.ascontiguousarray(array, np.float32).reshape(array.shape)
        for name, array in arrays.items()
    }
    try:
        save_file(whole, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"{path.name}: {error}") from error
