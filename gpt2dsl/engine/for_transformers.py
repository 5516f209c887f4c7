"""A run's weights for transformers, beside its checkpoints: ``train.export = "hf"``."""

from __future__ import annotations

from pathlib import Path

from gpt2dsl.engine.job import Result
from gpt2dsl.engine.progress import ByteBar
from gpt2dsl.weights import reading, store, writing
from gpt2dsl.weights.infer_config import Overrides

FOLDER = "hf"
"""The folder within the run."""

SHARD = 5 * 10**9
"""Maximum bytes of a file, as transformers has it."""


def write(result: Result) -> Path:
    """Convert a run's best or last checkpoint, unless its folder was made from that already.

    Only one block is in memory at a time.

    Raises:
        RunError: the disk is full or not writable.
    """
    checkpoint = result.best or result.checkpoint
    assert result.directory
    assert checkpoint
    folder = result.directory / FOLDER
    if _is_of(folder, checkpoint):
        return folder
    weights = reading.read(checkpoint, Overrides(fetch=True), contents=False)
    content = writing.prepared(weights, writing.in_dtype(weights.tensors, ""))
    writing.find_room(folder, content.size)
    with ByteBar(f"writing {folder}", content.size) as bar:
        writing.to_hugging_face(
            folder, content, source=checkpoint, dtype="", shard=SHARD, moved=bar.move, replace=True
        )
    return folder


def _is_of(folder: Path, checkpoint: Path) -> bool:
    """Return whether a folder was made from a checkpoint, which was not written anew since."""
    made, sealed = (path / store.MANIFEST for path in (folder, checkpoint))
    return (
        store.recorded(folder).get("source") == str(checkpoint)
        and made.stat().st_mtime_ns > sealed.stat().st_mtime_ns
    )
