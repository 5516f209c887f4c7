"""The reshard task: convert a checkpoint between parallel layouts, without MindSpore."""

from __future__ import annotations

import time
from pathlib import Path

from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.progress import ByteBar
from gpt2dsl.files import cache
from gpt2dsl.parts.task import Reshard
from gpt2dsl.weights import reading, resharding, writing
from gpt2dsl.weights.initial import filled
from gpt2dsl.weights.network_weights import Weights


def run(job: Job) -> Result:
    """Reshard the source of the task."""
    task = job.parts.task
    assert isinstance(task, Reshard)
    started = time.perf_counter()
    recorded = resharding.RecordedDigests.of(Path(job.weights))
    contents = not recorded.prove(optimizer=task.optimizer)
    weights = reading.read(task.source, job.overrides, contents=contents)
    training = _training(job, weights, task)
    content = writing.prepared(weights, filled(weights, job.parts.train.seed))
    target = resharding.Target(ranks=task.layout.grid, zero=task.layout.optimizer_shard)
    states = training.states if training else {}
    path = cache.expanded(task.target)
    size = resharding.size(content.geometry, content.tensors, states, target)
    writing.find_room(path, size)
    read = content.size + sum(state.size for state in states.values())
    with ByteBar(f"writing {path}", read) as bar:
        digest = resharding.write(
            path,
            content,
            training,
            target,
            source=task.source,
            moved=bar.move,
            recorded=recorded,
        )
    return Result(
        task="reshard",
        target=path,
        size=size,
        digest=digest,
        seconds=time.perf_counter() - started,
        notes=job.notes,
    )


def _training(job: Job, weights: Weights, task: Reshard) -> resharding.TrainingState | None:
    if not task.optimizer:
        return None
    return resharding.TrainingState.of(weights.path, weights.geometry, job.overrides)
