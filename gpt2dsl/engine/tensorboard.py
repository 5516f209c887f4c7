"""TensorBoard event files in the run directory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from gpt2dsl import extras
from gpt2dsl.engine.callbacks import Callback
from gpt2dsl.errors import RunError

if TYPE_CHECKING:
    from gpt2dsl.engine.job import Result


class TensorBoard(Callback):
    """A callback that logs all metrics as scalars: ``train/loss``, ``eval/loss``.

    Args:
        folder: folder of the event files.

    Raises:
        RunError: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if find_spec("tensorboard") is None:
            raise RunError(
                "G2-402",
                "runtime.tensorboard = true: tensorboard is not installed; "
                f"{extras.install('tensorboard')}",
            )
        from tensorboard.summary.writer.event_file_writer import (  # noqa: PLC0415  # optional
            EventFileWriter,
        )

        self._writer: Any = EventFileWriter(str(folder))

    @override
    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        self._add(step, {f"train/{name}": value for name, value in metrics.items()})

    @override
    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an evaluation."""
        scalars = {f"eval/{name.removeprefix('eval_')}": value for name, value in metrics.items()}
        self._add(step, scalars)

    @override
    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Flush the file, so that events are on disk whenever a checkpoint is."""
        self._writer.flush()

    @override
    def on_end(self, result: Result) -> None:
        """Close the file."""
        self._writer.close()

    def _add(self, step: int, scalars: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415  # as above
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415  # as above

        values = [Summary.Value(tag=tag, simple_value=scalar) for tag, scalar in scalars.items()]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._writer.add_event(event)
