"""Device and output of a run, without influence on the result."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice, flag, number, text


@part
class Runtime(Part):
    """Where it runs and where it writes."""

    table: ClassVar[str] = "runtime"

    device: str = choice(("cpu", "ascend", "gpu"), "device that MindSpore runs on", default="cpu")
    rank_table: str = text(
        "Ascend's file that assigns devices to ranks; without one, the ranks meet through "
        "MindSpore's scheduler",
        default="",
    )
    tensorboard: bool = flag(
        "write event files for TensorBoard to the run directory", default=False
    )
    peak_flops: float = number(
        "floating-point operations per second of a device, on CPU of a machine, to log model FLOPs "
        "utilization; 0 measures a CPU, and logs none on other devices",
        default=0.0,
    )
    output: str = text("parent of the run directories", empty=False, default="runs")
