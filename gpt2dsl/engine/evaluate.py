"""The evaluate task: token-weighted loss and perplexity of weights on a text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import attrs

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
from gpt2dsl.layout.parallel_dims import RankCoordinates
from gpt2dsl.model.evaluation import Losses, TokenLosses
from gpt2dsl.model.gpt2 import GPT2


def run(job: Job) -> Result:
    """Evaluate the weights of the recipe on the task's data."""
    team = parallel_context(job.parts)
    with saying(f"loading {job.weights}"):
        network = loaded(job, team.tensor_group)
    tokenizer = Tokenizer.load(job.tokenizer)
    if job.geometry.labels:
        result = _classes(job, network, tokenizer)
    else:
        result = _text(job, network, tokenizer, team)
    return finished(job, attrs.evolve(result, directory=job.directory), writes=team.is_main_process)


def _text(job: Job, network: GPT2, tokenizer: Tokenizer, team: ParallelContext) -> Result:
    rows = rows_of(job, "task.data", tokenizer)
    measured = mean_loss(TokenLosses(network), rows, job.parts.train.batch_size, team)
    assert measured is not None
    loss, tokens = measured
    return Result(task="evaluate", loss=loss, perplexity=perplexity(loss), tokens=tokens)


def _classes(job: Job, network: GPT2, tokenizer: Tokenizer) -> Result:
    examples = examples_of(job, "task.data", tokenizer)
    classifier = TextClassifier(network, tokenizer, job.classes, job.parts.train.seq_length)
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


def mean_loss(
    losses: Losses,
    rows: Rows,
    batch_size: int,
    team: ParallelContext,
    *,
    until: Callable[[], bool] = lambda: False,
    pause: float = SPARSE,
) -> tuple[float, int] | None:
    """Return the mean loss per token over all rows, and the number of tokens.

    Every token but the first of the text is predicted once, the incomplete last row included.
    Batches are weighted by their tokens and distributed round-robin over data parallel replicas.

    Args:
        losses: per-token losses of the network.
        rows: the text.
        batch_size: number of rows in a batch.
        team: the ranks; all of them must call.
        until: called after each batch; True aborts the evaluation, which then returns None.
        pause: minimum seconds between printed lines.
    """
    total, tokens = 0.0, 0
    replicas = team.data_group
    batches = itertools.islice(
        rows.evaluation_batches(batch_size), replicas.index, None, replicas.size
    )
    count = len(range(replicas.index, rows.evaluation_count(batch_size), replicas.size))
    with Bar("evaluating", count, pause=pause) as bar:
        for ids, labels, mask in batches:
            batch_losses = losses.losses(ids, labels)
            total += float((batch_losses.astype("float64") * mask).sum())
            tokens += int(mask.sum())
            bar.step(f"loss {total / tokens:.4f}")
            if until():
                return None
    total, tokens = _over_copies(team, total, tokens)
    if not math.isfinite(total):
        raise RunError("G2-402", f"{rows.name}: the loss is {total}; the weights are unusable")
    return total / tokens, tokens


def _over_copies(team: ParallelContext, total: float, tokens: int) -> tuple[float, int]:
    """Return the sums over data parallel replicas, one rank of each: its other ranks agree."""
    every = team.all_gather(total, tokens)
    firsts = [every[team.dims.rank(RankCoordinates(0, i, 0))] for i in range(team.dims.dp)]
    return sum(pair[0] for pair in firsts), int(sum(pair[1] for pair in firsts))


def perplexity(loss: float) -> float:
    """Return ``exp(loss)``, infinity on overflow."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
