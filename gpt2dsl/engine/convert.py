"""The convert task: weights from one format to another, without MindSpore."""

from __future__ import annotations

import time
from pathlib import Path

from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.progress import ByteBar
from gpt2dsl.files import cache
from gpt2dsl.parts.rules import bytes_of
from gpt2dsl.parts.task import Convert
from gpt2dsl.weights import opening, reading, writing
from gpt2dsl.weights.initial import filled


def run(job: Job) -> Result:
    """Convert the source of the task."""
    task = job.parts.task
    assert isinstance(task, Convert)
    started = time.perf_counter()
    size = _adapter(job, task) if task.to == "peft" else _weights(job, task)
    return Result(
        task="convert",
        target=_target(task),
        size=size,
        seconds=time.perf_counter() - started,
        notes=job.notes,
    )


def _weights(job: Job, task: Convert) -> int:
    weights = reading.read(task.source, job.overrides)
    tensors = writing.in_dtype(filled(weights, job.parts.train.seed), task.dtype)
    content = writing.prepared(weights, tensors)
    target = _target(task)
    writing.find_room(target, content.size)
    with ByteBar(f"writing {target}", content.size) as bar:
        if task.to == "mindformers":
            writing.to_mindformers(
                target, content, source=task.source, dtype=task.dtype, moved=bar.move
            )
        else:
            writing.to_hugging_face(
                target, content, source=task.source, dtype=task.dtype,
                shard=bytes_of(task.max_shard_size), moved=bar.move,
            )  # fmt: skip
    return content.size


def _adapter(job: Job, task: Convert) -> int:
    adapter = opening.adapter(task.source, job.overrides)
    writing.find_room(_target(task), adapter.size)
    with ByteBar(f"writing {task.target}", adapter.size) as bar:
        writing.to_peft(
            _target(task), adapter, source=task.source, dtype=task.dtype, moved=bar.move
        )
    return adapter.size


def _target(task: Convert) -> Path:
    return cache.expanded(task.target)
