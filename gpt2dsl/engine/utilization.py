"""Model FLOPs utilization (MFU) of a training: its speed, as a share of the devices' peak."""

from __future__ import annotations

import socket
import zlib

from gpt2dsl.backend.cpu import peak_flops
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.engine.job import Job


class Utilization:
    """Model FLOPs utilization (Chowdhery et al. 2022, PaLM, appendix B).

    On CPU, the ranks of a machine share it, and its peak is measured unless ``runtime.peak_flops``
    says it. Of other devices only the recipe knows the peak.
    """

    def __init__(self, job: Job, team: ParallelContext) -> None:
        runtime, devices, peak = job.parts.runtime, team.dims.count, job.parts.runtime.peak_flops
        if runtime.device == "cpu":
            machine = zlib.crc32(socket.gethostname().encode())
            devices = len(set(team.all_gather(float(machine))))
            # the others wait meanwhile, in the next collective
            peak = peak or (peak_flops() if team.is_main_process else 0.0)
        self._flops, self._peak = job.flops, peak * devices

    def of_step(self, seconds: float) -> float | None:
        """Return the utilization of a step; None if the peak is unknown, or on another rank."""
        return self._flops / seconds / self._peak if self._peak else None
