"""Model FLOPs utilization (MFU) of a training: its speed, as a share of the devices' peak."""

from __future__ import annotations

import socket
import zlib

from gpt2dsl.backend.peak_flops import peak_flops
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.engine.job import Job
from gpt2dsl.layout.flops import model_flops


class Utilization:
    """Model FLOPs utilization (Chowdhery et al. 2022, PaLM, appendix B).

    On CPU, the ranks of a machine share it, and its peak is measured unless ``runtime.peak_flops``
    says it. Of other devices only the recipe knows the peak.
    """

    def __init__(self, job: Job, team: ParallelContext) -> None:
        parts = job.parts
        self._flops = model_flops(
            job.geometry,
            parts.train.batch_size,
            parts.train.seq_length,
            frozen=parts.lora is not None,
        )
        is_cpu = parts.runtime.device == "cpu"
        machine = zlib.crc32(socket.gethostname().encode())
        machines = len(set(team.all_gather(float(machine)))) if is_cpu else 0
        peak = parts.runtime.peak_flops or (peak_flops() if is_cpu else 0.0)
        self._peak = peak * (machines or team.dims.count)

    def of_step(self, seconds: float) -> float | None:
        """Return the utilization of a step; None if the peak is unknown."""
        return self._flops / seconds / self._peak if self._peak else None
