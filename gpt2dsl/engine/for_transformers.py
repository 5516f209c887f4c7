"""A run's weights for transformers, beside its checkpoints: ``train.export = "hf"``."""

from __future__ import annotations

from pathlib import Path

from gpt2dsl.engine.progress import ByteBar
from gpt2dsl.weights import reading, store, writing
from gpt2dsl.weights.infer_config import Overrides

FOLDER = "hf"
"""The folder within the run."""

SHARD = 5 * 10**9
"""Maximum bytes of a file, as transformers has it."""


def write(checkpoint: Path, folder: Path) -> None:
    """Convert a sealed checkpoint block by block, unless the folder was made from it already.

    Raises:
        RunError: the disk is full or not writable.
    """
    if store.recorded(folder).get("source") == str(checkpoint):
        return
    weights = reading.read(checkpoint, Overrides(fetch=True), values=False, contents=False)
    content = writing.prepared(weights, writing.in_dtype(weights.tensors, ""))
    writing.find_room(folder, content.size)
    with ByteBar(f"writing {folder}", content.size) as bar:
        writing.to_hugging_face(
            folder, content, source=checkpoint, dtype="", shard=SHARD, moved=bar.move, replace=True
        )
