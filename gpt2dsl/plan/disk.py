"""Disk space of a training's checkpoints."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import attrs

from gpt2dsl.errors import RunError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import WTE, head_of, parameter_count
from gpt2dsl.parts.bundle import Parts

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@attrs.frozen
class Disk:
    """Bytes of a run's checkpoints.

    Attributes:
        checkpoint: bytes of one: weights or adapters, and the optimizer's state.
        kept: number of checkpoints that stay at the end.
        most: most checkpoints at once: a new one is complete before the oldest is deleted.
        export: bytes of the weights written for transformers at the end.
    """

    checkpoint: int
    kept: int
    most: int
    export: int = 0

    @property
    def total(self) -> int:
        """Most bytes at once."""
        return self.checkpoint * self.most + self.export

    def require(self, directory: Path) -> None:
        """Refuse a run whose checkpoints would fill the disk.

        Args:
            directory: directory of the run; existing checkpoints count as written.

        Raises:
            RunError: there is less room than its checkpoints need.
        """
        parent = next(path for path in directory.absolute().parents if path.exists())
        written = sum(
            file.stat().st_size for file in directory.glob("checkpoints/*/**/*") if file.is_file()
        )
        free, needed = shutil.disk_usage(parent).free, self.total - written
        if needed > free and written < self.checkpoint * self.kept:
            raise RunError(
                "G2-402",
                f"{directory}: the checkpoints need {needed / 1e6:,.1f} MB more, and {parent} has "
                f"room for {free / 1e6:,.1f}: make room, lower train.keep, or name a folder on "
                "another disk by runtime.output",
            )


def disk(
    parts: Parts, geometry: GPT2Config, trained: Sequence[tuple[int, ...]], steps: int
) -> Disk:
    """Return the disk space of a training's checkpoints.

    Args:
        parts: the recipe's.
        geometry: configuration of the network.
        trained: shapes of the tensors that training changes.
        steps: number of steps; 0 where it is not known yet.
    """
    train, changed = parts.train, sum(map(math.prod, trained))
    weights = changed if parts.lora else parameter_count(geometry)
    width = 4 if parts.lora else _BYTES[parts.precision.params]
    moments = 1 if parts.optim.name == "sgd" else 2
    if parts.parallel.pp > 1 and not parts.lora and head_of(geometry) == WTE:
        tied = geometry.padded_vocab * geometry.hidden  # which both ends of a pipeline write
        weights, changed = weights + tied, changed + tied
    masters = changed * 4 if width < 4 else 0
    saved = _times(steps, train.save_every) or 1
    saved += _times(steps, train.evaluate_every) if train.best else 0
    kept = int(min(train.keep + train.best, saved))
    return Disk(
        checkpoint=weights * width + changed * 4 * moments + masters,
        kept=kept,
        most=int(min(kept + 1, saved)),
        export=parameter_count(geometry) * width if train.export != "none" else 0,
    )


def _times(steps: int, every: int) -> float:
    """Return how often an action runs that is due every ``every`` steps; infinity if unknown."""
    if not every:
        return 0
    return math.ceil(steps / every) if steps else math.inf
