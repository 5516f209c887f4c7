"""The task generate: prompts in, texts out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.engine.progress import saying
from gpt2dsl.engine.rundir import RunDirectory
from gpt2dsl.errors import InputError
from gpt2dsl.parts.task import Generate


def run(job: Job) -> Result:
    """Continue the prompts of the task."""
    task = job.parts.task
    assert isinstance(task, Generate)
    prompts = read_prompts(task.prompts)
    with saying(f"loading {job.weights}"):
        model = LanguageModel.load(
            job.weights,
            job.hints,
            on=job.parts.runtime.device,
            seed=job.parts.train.seed,
            precision=job.parts.precision,
        )
    with saying(f"compiling and generating for {len(prompts)} prompt(s)"):
        started = time.perf_counter()
        found = model.continuations(prompts, job.parts.generation)
        seconds = time.perf_counter() - started
    result = Result(
        task="generate",
        directory=job.directory,
        tokens=sum(one.tokens for one in found),
        tokens_per_second=sum(one.tokens for one in found) / seconds,
        texts=tuple(one.prompt + one.text for one in found),
    )
    if job.directory:
        RunDirectory.of(job).finish(result)
    return result


def read_prompts(said: Sequence[str] | str) -> Sequence[str]:
    """The prompts of a recipe, or the lines of the file that it names."""
    if not isinstance(said, str):
        return said
    try:
        lines = Path(said).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError("G2-301", said, "there is no such file of prompts") from None
    except UnicodeDecodeError as error:
        raise InputError("G2-303", said, f"not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise InputError("G2-304", said, f"can't be read: {error.strerror}") from None
    if not any(lines):
        raise InputError("G2-302", said, "there is no prompt in it")
    return tuple(line for line in lines if line)
