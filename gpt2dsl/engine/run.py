"""Carries a job out with the engine of its task."""

from __future__ import annotations

from gpt2dsl.engine.job import Job, Result
from gpt2dsl.errors import NotYetError


def run(job: Job) -> Result:
    """Carry a job out.

    Raises:
        NotYetError: no engine does, so far.
        RunError: it failed.
    """
    if job.not_yet:
        raise NotYetError(f"no engine so far for: {', '.join(job.not_yet)} [G2-401]")
    from gpt2dsl.engine import evaluate, generate, train  # noqa: PLC0415  # they import MindSpore

    assert job.parts.task is not None
    engines = {
        "pretrain": train.run,
        "finetune": train.run,
        "evaluate": evaluate.run,
        "generate": generate.run,
    }
    return engines[job.parts.task.name](job)
