"""The task classify: texts in, classes out."""

from __future__ import annotations

from gpt2dsl.cluster import groups
from gpt2dsl.data import prompts
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.classifier import TextClassifier
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.language_model import loaded
from gpt2dsl.engine.progress import saying
from gpt2dsl.engine.rundir import finished
from gpt2dsl.parts.task import Classify


def run(job: Job) -> Result:
    """Name the classes of the task's texts."""
    task = job.parts.task
    assert isinstance(task, Classify)
    texts, team = prompts.read(task.texts, "text"), groups.team(job.parts)
    with saying(f"loading {job.weights}"):
        classifier = TextClassifier(
            loaded(job, team.shard),
            Tokenizer.load(job.tokenizer),
            job.classes,
            job.parts.train.seq_length,
        )
    with saying(f"compiling and classifying {len(texts)} text(s)"):
        shares = classifier.probabilities(texts)
    best = shares.argmax(1)
    result = Result(
        task="classify",
        directory=job.directory,
        texts=tuple(texts),
        classes=tuple(job.classes[i] for i in best),
        probabilities=tuple(float(row[i]) for row, i in zip(shares, best, strict=True)),
    )
    return finished(job, result, writes=team.leads)
