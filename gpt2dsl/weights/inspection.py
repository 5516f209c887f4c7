"""Description of weights as JSON, usable or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.errors import SpecError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import parameter_count
from gpt2dsl.parts.model import size_of
from gpt2dsl.schema.folder import OPTIMIZER_STATE
from gpt2dsl.weights import beside, location, opening, store
from gpt2dsl.weights.beside import FileFate
from gpt2dsl.weights.files import tensorfile
from gpt2dsl.weights.files.lazy_tensor import NAMES
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.network_weights import Weights

WORDS = {"layout": "layout", "digest": "recorded_digest"}
"""Key of a checkpoint's manifest → key of the description; the recorded value is copied."""


def inspect(name: str | Path, overrides: Overrides) -> dict[str, Any]:
    """Describe weights, and the fate of each file and key beside them, as JSON.

    Values are not read, and checksums of our checkpoints are not compared. If a key is refused, the
    network is left out and ``faults`` gives the reason.

    Raises:
        InputError: as in :func:`gpt2dsl.weights.opening.opened`, unless a key is refused.
    """
    files = beside.fates_of(location.find(name, contents=False, fetch=overrides.fetch))
    try:
        weights = opening.opened(name, overrides)
        description = _described(name, weights, overrides)
        files = [beside.for_texts(file, weights.defaults) for file in files]
    except SpecError:
        if not _refused(files):
            raise
        description = {"weights": str(name), "missing": [], "faults": []}
    description["faults"] += _refused(files)
    return description | {"beside": beside.to_json(files)}


def _refused(files: Sequence[FileFate]) -> list[str]:
    """Return a line for each refused file and key."""
    refused = [f"{file.path.name}: {file.words}" for file in files if file.fate == "refused"]
    return refused + [str(key) for file in files for key in file.keys if key.fate == "refused"]


def _numbers(geometry: GPT2Config) -> dict[str, Any]:
    """Return the network's settings, with defaults resolved."""
    dropouts = geometry.dropouts
    resolved = attrs.evolve(
        geometry,
        inner=geometry.inner_width,
        embedding_dropout=dropouts.embedding,
        attention_dropout=dropouts.attention,
    )
    numbers = attrs.asdict(resolved)
    if not geometry.labels:
        del numbers["problem"]
    return numbers


def _moments(folder: Path) -> int:
    """Return the number of optimizer tensors in a checkpoint of ours."""
    path = folder / OPTIMIZER_STATE
    return len(tensorfile.stored(path)) if path.is_file() else 0


def _described(name: str | Path, weights: Weights, overrides: Overrides) -> dict[str, Any]:
    geometry = weights.geometry
    tensors = (*weights.tensors.values(), *([weights.head] if weights.head else []))
    types = Counter(NAMES.get(tensor.kind, tensor.kind) for tensor in tensors)
    description: dict[str, Any] = {
        "weights": str(name),
        "format": weights.format,
        "size": size_of(geometry),
        "network": _numbers(geometry),
        "parameters": parameter_count(geometry),
        "tensors": len(tensors),
        "types": dict(types),
        "bytes": sum(tensor.size for tensor in tensors),
        "files": [str(path) for path in weights.location.files],
        "tokenizer": str(weights.tokenizer) if weights.tokenizer else None,
        "training_state": len(weights.training_state) or _moments(weights.location.folder),
        "missing": list(weights.missing),
        "faults": [*weights.faults, *overrides.contradictions(geometry)],
    }
    manifest = store.recorded(weights.location.folder)
    description |= {name: manifest[word] for word, name in WORDS.items() if word in manifest}
    if weights.adapter:
        modules = weights.adapter.modules
        description["adapter"] = {
            "modules": len(modules),
            "ranks": sorted({part.rank for part in modules.values()}),
            "parameters": weights.adapter.parameters,
        }
    return description
