"""Training state of a checkpoint: the optimizer state and the state of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gpt2dsl.data.documents import read_json
from gpt2dsl.errors import InputError
from gpt2dsl.schema.folder import OPTIMIZER_STATE, TRAINING_STATE
from gpt2dsl.weights import joining, location
from gpt2dsl.weights.files import tensorfile
from gpt2dsl.weights.files.lazy_tensor import ArrayTensor, LazyTensor
from gpt2dsl.weights.infer_config import Overrides


def write(
    folder: Path, arrays: Mapping[str, NDArray[Any]], state: Mapping[str, Any]
) -> dict[str, str]:
    """Write both files; return file → checksum of that with tensors, for ``store.writing``."""
    write_state(folder, state)
    return write_tensors(folder, {name: ArrayTensor.of(array) for name, array in arrays.items()})


def write_tensors(folder: Path, tensors: Mapping[str, LazyTensor]) -> dict[str, str]:
    """Write only the optimizer state; otherwise as ``write``."""
    return {OPTIMIZER_STATE: tensorfile.write(folder / OPTIMIZER_STATE, tensors)}


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write only the state of the run."""
    (folder / TRAINING_STATE).write_text(
        json.dumps(dict(state), indent=2, allow_nan=False) + "\n", "utf-8"
    )


def read(folder: Path) -> tuple[dict[str, LazyTensor], dict[str, Any]]:
    """Return the optimizer state as lazy tensors, and the state of the run.

    Raises:
        InputError: a file is absent (G2-301), empty (G2-302) or damaged (G2-304).
    """
    state = read_state(folder)
    return stored(folder, Overrides()), state


def read_state(folder: Path) -> dict[str, Any]:
    """Return only the state of the run.

    Raises:
        InputError: a file is absent (G2-301), empty (G2-302) or damaged (G2-304).
    """
    path = folder / TRAINING_STATE
    if not path.exists():
        raise InputError("G2-301", path, "the checkpoint holds no state to resume from")
    return read_json(path)


def stored(folder: Path, overrides: Overrides) -> dict[str, LazyTensor]:
    """Return the optimizer state as lazy tensors, from its own file or those of the ranks.

    Raises:
        InputError: as in ``read``.
    """
    if not location.rank_folders(folder):
        return tensorfile.stored(folder / OPTIMIZER_STATE)
    return joining.joined(location.find(folder, contents=False), overrides).states
