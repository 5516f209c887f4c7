"""Device and output of a run, without influence on the result."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice, flag, text


@part
class Runtime(Part):
    """Where it runs and where it writes."""

    table: ClassVar[str] = "runtime"

    device: str = choice(("cpu", "ascend", "gpu"), "what MindSpore runs on", default="cpu")
    rank_table: str = text(
        "of Ascend: a file that says which device is which rank; without one the ranks meet "
        "through a scheduler of MindSpore",
        default="",
    )
    tensorboard: bool = flag("event files for TensorBoard in the run's folder", default=False)
    output: str = text("folder under which each run has its own", empty=False, default="runs")
