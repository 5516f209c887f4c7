"""The evaluate task: token-weighted loss and perplexity of weights on a text."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import numpy as np

from gpt2dsl.backend import device
from gpt2dsl.data import mindrecord
from gpt2dsl.data.classes import labels_of
from gpt2dsl.data.examples import Examples
from gpt2dsl.data.rows import Rows
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.data.tokens import stream
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.engine.classifier import TextClassifier, pad_of
from gpt2dsl.engine.context import parallel_context
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.language_model import loaded
from gpt2dsl.engine.progress import SPARSE, Bar, saying
from gpt2dsl.engine.rundir import finished
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.layout.config import REGRESSION
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.training.batch_outputs import BatchOutputs


def run(job: Job) -> Result:
    """Evaluate the weights of the recipe on the task's data."""
    team = parallel_context(job.parts)
    with saying(f"loading {job.weights}"):
        network = loaded(job, team.tensor_group, team.pipeline_group)
    tokenizer, outputs = Tokenizer.load(job.tokenizer), batch_outputs(job, network, team)
    if job.geometry.labels:
        result = _classes(job, network, tokenizer, outputs)
    else:
        result = _text(job, tokenizer, outputs)
    return finished(job, attrs.evolve(result, directory=job.directory), writes=team.is_main_process)


def _text(job: Job, tokenizer: Tokenizer, outputs: BatchOutputs) -> Result:
    rows = rows_of(job, "task.data", tokenizer)
    measured = mean_loss(outputs, rows, job.parts.train.batch_size)
    assert measured is not None
    loss, tokens = measured
    return Result(task="evaluate", loss=loss, perplexity=perplexity(loss), tokens=tokens)


def _classes(job: Job, network: GPT2, tokenizer: Tokenizer, outputs: BatchOutputs) -> Result:
    examples = examples_of(job, "task.data", tokenizer)
    length = job.parts.train.seq_length
    classifier = TextClassifier(network, tokenizer, job.classes, length, outputs=outputs)
    is_regression = job.geometry.problem == REGRESSION
    measured = classifier.regression_scores if is_regression else classifier.scores
    scores = measured(examples, job.parts.train.batch_size)
    assert scores is not None
    return Result(task="evaluate", loss=scores.loss, scores=scores)


def examples_of(job: Job, key: str, tokenizer: Tokenizer) -> Examples:
    """Return the examples of a classifier's data, which a key of the recipe names."""
    source, length = job.sources[key], job.parts.train.seq_length
    is_regression = job.geometry.problem == REGRESSION
    if source.form.format != "mindrecord":
        labels = labels_of(job.classes, source.form, is_regression=is_regression)
        return Examples.read(source, tokenizer, labels, length, pad_of(job, tokenizer))
    if is_regression:
        message = "a MindRecord has classes, and this head gives a number: use jsonl, csv or tsv"
        raise InputError("G2-309", source.name, message)
    ids, sizes, classes = mindrecord.read_classes(source)
    examples = Examples.of_rows(ids, sizes, classes, length, source.name)
    examples.require_ids(job.geometry.vocab, len(job.classes))
    return examples


def rows_of(job: Job, key: str, tokenizer: Tokenizer, *, trains: bool = False) -> Rows:
    """Return the rows of a text, in the recipe's format and sequence length.

    Args:
        job: a job with the recipe.
        key: key of the recipe that names the text.
        tokenizer: tokenizer of the text.
        trains: whether the rows are for training, which requires the exact length; evaluation
            reads shorter rows too.

    Raises:
        InputError: prepared rows have another length (G2-309), or ids beyond the vocabulary
            (G2-205).
    """
    source = job.sources[key]
    if source.form.format != "mindrecord":
        return Rows(stream(source, tokenizer), job.parts.train.seq_length, source.name)
    rows, length = mindrecord.read(source), job.parts.train.seq_length
    if rows.seq_length != length and (trains or rows.seq_length > length):
        size = f"{rows.seq_length + 1:,} tokens"
        message = f"its rows have {size}; train.seq_length = {length} needs {length + 1:,}"
        if rows.seq_length == length - 1:
            message += " for training: data prepare writes them without --evaluation"
        raise InputError("G2-309", source.name, message)
    rows.require_ids(job.geometry.vocab)
    rows.width = length
    return rows


def batch_outputs(job: Job, network: GPT2, team: ParallelContext) -> BatchOutputs:
    """Return the computation of batches of a recipe, as many rows at a time as in training."""
    parts = job.parts
    rows = parts.train.batch_size // parts.parallel.dp // parts.parallel.micro_batches
    with device.turn():
        return BatchOutputs(network, rows, team.data_group)


def mean_loss(
    outputs: BatchOutputs,
    rows: Rows,
    batch_size: int,
    *,
    until: Callable[[], bool] = lambda: False,
    pause: float = SPARSE,
) -> tuple[float, int] | None:
    """Return the mean loss per token over all rows, and the number of tokens.

    Every token but the first of the text is predicted once, the incomplete last row included.
    Sums are over whole batches, whichever ranks computed them, in whichever parts.

    Args:
        outputs: per-token losses of the network; all ranks must call.
        rows: the text.
        batch_size: number of rows in a batch.
        until: called after each batch; True aborts the evaluation, which then returns None.
        pause: minimum seconds between printed lines.
    """
    total, tokens = 0.0, 0
    with Bar("evaluating", rows.evaluation_count(batch_size), pause=pause) as bar:
        for ids, labels, mask in rows.evaluation_batches(batch_size):
            losses = outputs.of(ids, labels, np.any(mask, axis=1))
            total += float((losses.astype("float64") * mask).sum())
            tokens += int(mask.sum())
            bar.step(f"loss {total / tokens:.4f}")
            if until():
                return None
    if not math.isfinite(total):
        raise RunError("G2-402", f"{rows.name}: the loss is {total}; the weights are unusable")
    return total / tokens, tokens


def perplexity(loss: float) -> float:
    """Return ``exp(loss)``, infinity on overflow."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
