"""The classify task: texts in, classes or regression values out."""

from __future__ import annotations

import attrs

from gpt2dsl.data import prompts
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.classifier import TextClassifier, pad_of
from gpt2dsl.engine.context import parallel_context
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.language_model import loaded
from gpt2dsl.engine.progress import saying
from gpt2dsl.engine.rundir import finished
from gpt2dsl.parts.task import Classify


def run(job: Job) -> Result:
    """Classify the texts of the task, or predict the values of a regression."""
    task = job.parts.task
    assert isinstance(task, Classify)
    texts, team = prompts.read(task.texts, "text"), parallel_context(job.parts)
    with saying(f"loading {job.weights}"):
        network, tokenizer = loaded(job, team.tensor_group), Tokenizer.load(job.tokenizer)
        length, skipped = job.parts.train.seq_length, pad_of(job, tokenizer)
        classifier = TextClassifier(network, tokenizer, job.classes, length, skipped)
    with saying(f"compiling and classifying {len(texts)} text(s)"):
        outputs = classifier.outputs(texts)
    result = Result(task="classify", directory=job.directory, texts=tuple(texts))
    if job.geometry.problem:
        values = (dict(zip(job.classes, map(float, row), strict=True)) for row in outputs)
        result = attrs.evolve(result, outputs=tuple(values))
    else:
        best = outputs.argmax(1)
        result = attrs.evolve(
            result,
            classes=tuple(job.classes[i] for i in best),
            probabilities=tuple(float(row[i]) for row, i in zip(outputs, best, strict=True)),
        )
    return finished(job, result, writes=team.is_main_process)
