"""Detection of a weight file's format from its content."""

from __future__ import annotations

from pathlib import Path

from gpt2dsl.errors import InputError
from gpt2dsl.weights.files import ckptfile, tensorfile, torchfile
from gpt2dsl.weights.files.lazy_tensor import LazyTensor

SAFETENSORS, TORCH, CHECKPOINT = "safetensors", "PyTorch .bin", ".ckpt"


def format_of(path: Path) -> str:
    """Return the format of a file.

    Raises:
        InputError: it is absent (G2-301), empty (G2-302), or unreadable or of no known format
            (G2-304).
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError as error:
        raise InputError("G2-301", path, "there is no such file") from error
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror or error}") from error
    if not start:
        raise InputError("G2-302", path, "the file is empty")
    if torchfile.is_torch(start):
        return TORCH
    if ckptfile.is_checkpoint(path, start):
        return CHECKPOINT
    # By suffix as well: the format's own reader gives the best message for a damaged header.
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        return SAFETENSORS
    if path.suffix == ".ckpt":
        return CHECKPOINT
    raise InputError(
        "G2-304",
        path,
        "it is no file of weights: neither safetensors, nor PyTorch's, nor MindSpore's",
    )


def stored(path: Path) -> tuple[str, dict[str, LazyTensor]]:
    """Return the format of a file and its tensors by name.

    Raises:
        InputError: as in :func:`format_of`; or it is damaged, or its pickle would run code
            (G2-304).
    """
    kind = format_of(path)
    module = {SAFETENSORS: tensorfile, TORCH: torchfile, CHECKPOINT: ckptfile}[kind]
    return kind, module.stored(path)
