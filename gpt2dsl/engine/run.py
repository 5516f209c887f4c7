"""Dispatch of a job to the engine of its task."""

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
"""Task → module of its engine, by name: only the task's module is imported, since most import
MindSpore, and the server's is in a layer above the engines."""

_ELSEWHERE = '--set runtime.device=cpu, .set("runtime.device", "cpu") in Python, runs here'


def run(job: Job, node: Node | None = None) -> Result:
    """Run a job.

    Args:
        job: the job, identical on all machines.
        node: this machine's share of it, from a launcher that sends orders through stdin.

    Raises:
        RunError: the job failed, or the device is unavailable.
    """
    if reason := devices.refusal(job.parts):
        raise RunError("G2-402", f"{reason}; {_ELSEWHERE}")
    if node:
        return parallel.run_node(job, node, orders=control_channel.from_stdin())
    if job.parts.parallel.ranks > 1:
        return parallel.run(job)
    return carried_out(job)


def carried_out(job: Job) -> Result:
    """Run a job in this process, possibly one of its ranks; raises as ``run`` does."""
    assert job.parts.task is not None
    with held():
        module = importlib.import_module(ENGINES[job.parts.task.kind])
    result: Result = module.run(job)
    return result
