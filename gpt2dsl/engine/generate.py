"""The generate task: prompts in, texts out."""

from __future__ import annotations

import time
from collections.abc import Sequence

from gpt2dsl.data import prompts
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.engine.context import parallel_context
from gpt2dsl.engine.generation.continuation import Continuation
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.engine.progress import saying
from gpt2dsl.engine.rundir import finished
from gpt2dsl.parts import Generation
from gpt2dsl.parts.task import Generate
from gpt2dsl.terminal import say


def run(job: Job) -> Result:
    """Continue the prompts of the task."""
    task = job.parts.task
    assert isinstance(task, Generate)
    texts, team = prompts.read(task.prompts, "prompt"), parallel_context(job.parts)
    with saying(f"loading {job.weights}"):
        model = LanguageModel.of_job(job, team.tensor_group)
    started = time.perf_counter()
    continuations = _generated(job, model, texts, team)
    seconds = time.perf_counter() - started
    if (
        full := sum(continuation.ended == "positions" for continuation in continuations)
    ) and team.is_main_process:
        stop = f"stopped at the model's {model.geometry.positions:,} positions"
        say(f"{full} of {len(continuations)} texts {stop}, before their own length")
    result = Result.generated(continuations, seconds, directory=job.directory, notes=job.notes)
    return finished(job, result, writes=team.is_main_process)


def _generated(
    job: Job, model: LanguageModel, texts: Sequence[str], team: ParallelContext
) -> list[Continuation]:
    generation = model.defaults.completed(job.parts.generation)
    if job.on_text is None or not generation.stream:
        with saying(f"compiling and generating for {len(texts)} prompt(s)"):
            return _shared_out(model, texts, generation, team)
    return model.show(texts, generation, job.on_text)


def _shared_out(
    model: LanguageModel, texts: Sequence[str], generation: Generation, team: ParallelContext
) -> list[Continuation]:
    """Distribute prompts over data parallel replicas; every rank gets all continuations."""
    dp, each = team.data_group.size, generation.num_return_sequences
    indices = range(team.data_group.index, len(texts), dp)
    continuations = (
        model.continuations([texts[i] for i in indices], generation, indices) if indices else []
    )
    shares = team.gather_from_replicas(continuations)
    return [
        continuation
        for i in range(len(texts))
        for continuation in shares[i % dp][i // dp * each :][:each]
    ]
