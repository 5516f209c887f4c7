"""Carries a job out with the engine of its task."""

from __future__ import annotations

import importlib

from gpt2dsl.cluster import control_channel, devices
from gpt2dsl.cluster.node import Node
from gpt2dsl.engine import parallel
from gpt2dsl.engine.interrupt import held
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.errors import RunError

ENGINES = {
    "pretrain": "gpt2dsl.engine.train",
    "finetune": "gpt2dsl.engine.train",
    "evaluate": "gpt2dsl.engine.evaluate",
    "generate": "gpt2dsl.engine.generate",
    "classify": "gpt2dsl.engine.classify",
    "convert": "gpt2dsl.engine.convert",
    "reshard": "gpt2dsl.engine.reshard",
    "export": "gpt2dsl.engine.export",
    "serve": "gpt2dsl.serve.task",
}
"""Task → the module that carries it out. Only the task's is imported; those that compute
import MindSpore. A server's stands above the engines: modules are named, not imported."""


def run(job: Job, node: Node | None = None) -> Result:
    """Carry a job out.

    Args:
        job: the whole one.
        node: this machine's share of it, given by a launcher that speaks through stdin.

    Raises:
        RunError: it failed, or the device is not here.
    """
    if reason := devices.refusal(job.parts):
        raise RunError(f"{reason}; --set runtime.device=cpu runs here")
    if node:
        return parallel.run_node(job, node, orders=control_channel.from_stdin())
    if job.parts.parallel.ranks > 1:
        return parallel.run(job)
    return carried_out(job)


def carried_out(job: Job) -> Result:
    """Carry a job out in this process, which may be one of its ranks; raises as ``run`` does."""
    assert job.parts.task is not None
    with held():
        module = importlib.import_module(ENGINES[job.parts.task.kind])
    result: Result = module.run(job)
    return result
