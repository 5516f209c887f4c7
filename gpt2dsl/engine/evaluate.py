"""The task evaluate: token-weighted loss and perplexity of weights on a text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import attrs

from gpt2dsl.data import mindrecord
from gpt2dsl.data.classes import labels_of
from gpt2dsl.data.examples import Examples
from gpt2dsl.data.form import Form
from gpt2dsl.data.rows import Rows
from gpt2dsl.data.source import Source
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
from gpt2dsl.parts.task import Evaluate


def run(job: Job) -> Result:
    """Evaluate the weights of the recipe on the task's data."""
    task = job.parts.task
    assert isinstance(task, Evaluate)
    team = parallel_context(job.parts)
    with saying(f"loading {job.weights}"):
        network = loaded(job, team.shard)
    tokenizer = Tokenizer.load(job.tokenizer)
    if job.geometry.labels:
        result = _classes(job, task, network, tokenizer)
    else:
        result = _text(job, task, network, tokenizer, team)
    return finished(job, attrs.evolve(result, directory=job.directory), writes=team.is_main_process)


def _text(
    job: Job, task: Evaluate, network: GPT2, tokenizer: Tokenizer, team: ParallelContext
) -> Result:
    rows = rows_of(job, task.data, tokenizer)
    found = mean_loss(TokenLosses(network), rows, job.parts.train.batch_size, team)
    assert found is not None
    loss, tokens = found
    return Result(task="evaluate", loss=loss, perplexity=perplexity(loss), tokens=tokens)


def _classes(job: Job, task: Evaluate, network: GPT2, tokenizer: Tokenizer) -> Result:
    examples = examples_of(job, task.data, tokenizer)
    classifier = TextClassifier(network, tokenizer, job.classes, job.parts.train.seq_length)
    is_regression = job.geometry.problem == REGRESSION
    measured = classifier.regression_scores if is_regression else classifier.scores
    scores = measured(examples, job.parts.train.batch_size)
    assert scores is not None
    return Result(task="evaluate", loss=scores.loss, scores=scores)


def examples_of(job: Job, name: str, tokenizer: Tokenizer) -> Examples:
    """Return the rows of a classifier's data, in the form that a recipe says."""
    source, length = Source.open(name, Form.of(job.parts.data)), job.parts.train.seq_length
    is_regression = job.geometry.problem == REGRESSION
    if source.form.format != "mindrecord":
        labels = labels_of(job.classes, source.form, is_regression=is_regression)
        return Examples.read(source, tokenizer, labels, length, pad_of(job, tokenizer))
    if is_regression:
        message = "a MindRecord has classes, and this head gives a number: use jsonl, csv or tsv"
        raise InputError("G2-309", name, message)
    ids, sizes, classes = mindrecord.read_classes(source)
    found = Examples.of_rows(ids, sizes, classes, length, name)
    found.require_ids(job.geometry.vocab, len(job.classes))
    return found


def rows_of(job: Job, name: str, tokenizer: Tokenizer, *, trains: bool = False) -> Rows:
    """Return the rows of a text, in the form and of the length that a recipe says.

    Args:
        job: has the recipe.
        name: of the text.
        tokenizer: of it.
        trains: whether the rows are trained on, and must be of that length; an evaluation reads
            shorter ones too.

    Raises:
        InputError: rows that were cut before are of another length (G2-309), or have ids that the
            word table lacks (G2-205).
    """
    source = Source.open(name, Form.of(job.parts.data))
    if source.form.format != "mindrecord":
        return Rows(stream(source, tokenizer), job.parts.train.seq_length, name)
    rows, length = mindrecord.read(source), job.parts.train.seq_length
    if rows.seq_length != length and (trains or rows.seq_length > length):
        found = f"{rows.seq_length + 1:,} tokens"
        message = f"its rows have {found}; train.seq_length = {length} needs {length + 1:,}"
        if rows.seq_length == length - 1:
            message += " for training: data prepare writes them without --evaluation"
        raise InputError("G2-309", name, message)
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
    """Loss per token over all rows, the incomplete last one too, and the number of tokens.

    Every token but the text's first is predicted once. Batches weigh what they have in tokens.
    Copies of the network take batches in turns.

    Args:
        losses: of the network.
        rows: the text.
        batch_size: rows at once.
        team: the ranks; all ask at once.
        until: asked after each batch; once it is true the evaluation is given up, for None.
        pause: seconds between printed lines.
    """
    total, tokens = 0.0, 0
    copies = team.copies
    batches = itertools.islice(rows.evaluation_batches(batch_size), copies.index, None, copies.dp)
    count = len(range(copies.index, rows.evaluation_count(batch_size), copies.dp))
    with Bar("evaluating", count, pause=pause) as bar:
        for ids, labels, mask in batches:
            found = losses.losses(ids, labels)
            total += float((found.astype("float64") * mask).sum())
            tokens += int(mask.sum())
            bar.step(f"loss {total / tokens:.4f}")
            if until():
                return None
    total, tokens = _over_copies(team, total, tokens)
    if not math.isfinite(total):
        raise RunError(f"{rows.name}: the loss is {total}; the weights are unusable [G2-402]")
    return total / tokens, tokens


def _over_copies(team: ParallelContext, total: float, tokens: int) -> tuple[float, int]:
    """Return the sums of all copies; ranks that share layers have found the same."""
    every = team.gathered(total, tokens)
    firsts = [every[team.ranks.rank(RankCoordinates(0, i, 0))] for i in range(team.ranks.dp)]
    return sum(one[0] for one in firsts), int(sum(one[1] for one in firsts))


def perplexity(loss: float) -> float:
    """``exp(loss)``, infinite where that is no number any more."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
