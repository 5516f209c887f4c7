"""Faults between values of a recipe: indivisible, too large, or contradictory."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpt2dsl.data.table import CLASSES
from gpt2dsl.engine.lr_schedule import warmup_steps
from gpt2dsl.errors import Fault, counted
from gpt2dsl.layout.config import PADDED_TO, GPT2Config
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.data import FORMATS
from gpt2dsl.parts.model import PUBLISHED
from gpt2dsl.parts.parallel import Parallel
from gpt2dsl.parts.values import as_written

WITHOUT_CLASSES = ("text", "wikitext")
WITH_CLASSES = tuple(name for name in FORMATS if name not in WITHOUT_CLASSES)


def faults(parts: Parts, geometry: GPT2Config) -> list[Fault]:
    """Return all faults of a recipe whose values are valid by themselves."""
    rules = (
        _together, _with_classes, _records, _model, _layout, _chosen, _rows, _length, _rate,
    )  # fmt: skip
    return [fault for rule in rules for fault in rule(parts, geometry)]


NETWORK = ("model", "task.source")
"""Keys and tables that decide the network's sizes."""


def fault(
    parts: Parts,
    code: str,
    key: str,
    message: str,
    *else_keys: str,
    compared: tuple[str, ...] = (),
) -> Fault:
    """Return a fault at the line of ``key``, or of the first of ``else_keys`` that is written.

    ``compared`` are other keys, and tables, whose values lead to it.
    """
    compared = (key, *else_keys, *compared)
    table, _, field = key.partition(".")
    part = getattr(parts, table)
    shown = f"{key} = {as_written(getattr(part, field))}" if hasattr(part, field) else key
    for name in (key, *else_keys):
        if (origin := parts.origin(name)) != "default":
            return Fault(code, origin, shown, message, compared=compared)
    origin = part.origin if part and part.origins else ""
    return Fault(code, origin, shown, message, compared=compared)


def _together(parts: Parts, _: GPT2Config) -> Iterator[Fault]:
    task = parts.task
    if task is None:
        yield Fault("G2-107", "", "task", "missing; a recipe says what to do: Task.finetune(...)")
        return
    if task.generates and parts.classifier is not None:
        origin = parts.classifier.origin
        yield Fault("G2-107", origin, "classifier", "a classifier generates no text")
    if not task.from_scratch and not task.converts:
        yield from _published(parts)


def _with_classes(parts: Parts, geometry: GPT2Config) -> Iterator[Fault]:
    """Yield faults of a classifier whose data has no classes, or other ones."""
    if not (geometry.labels and parts.reads_rows):
        return
    wanted = CLASSES.get(parts.data.format, geometry.labels)
    if wanted != geometry.labels:
        message = f"{parts.data.format} has {wanted} classes, the classifier {geometry.labels}"
        yield fault(
            parts, "G2-317", "classifier.labels", message, "data.format", compared=("model",)
        )
    if parts.data.format in WITHOUT_CLASSES:
        message = f"a classifier needs the class of each text: {', '.join(WITH_CLASSES)}"
        keys = ("classifier.labels", "task.data")
        yield fault(parts, "G2-107", "data.format", message, *keys, compared=("model",))


def _records(parts: Parts, _: GPT2Config) -> Iterator[Fault]:
    if parts.data.format == "mindrecord" and parts.data.tokenizer == "train":
        message = "MindRecord holds ids, no text that a vocabulary could be trained on"
        yield fault(parts, "G2-107", "data.tokenizer", message, "data.format")


def _published(parts: Parts) -> Iterator[Fault]:
    model = parts.model
    if model.weights == "auto" and model.canonical_size not in PUBLISHED:
        message = f"missing; {model.canonical_size} has no published weights, name some or random"
        yield fault(parts, "G2-103", "model.weights", message, "model.size", "task.data")


def _model(parts: Parts, geometry: GPT2Config) -> Iterator[Fault]:
    try:
        re.compile(parts.model.allow_missing)
    except re.error as error:
        yield fault(parts, "G2-202", "model.allow_missing", f"expected a regex: {error}")
    if geometry.hidden % geometry.heads:
        message = f"{geometry.heads} heads do not divide the width {geometry.hidden}"
        keys = ("model.hidden", "model.size", "model.weights")
        yield fault(parts, "G2-203", "model.heads", message, *keys, compared=NETWORK)


def _layout(parts: Parts, geometry: GPT2Config) -> Iterator[Fault]:
    mp = parts.parallel.mp
    for key, message in undivided(parts.parallel, geometry):
        yield fault(parts, "G2-203", f"parallel.{key}", message, compared=NETWORK)
    if parts.parallel.sequence_parallel and parts.train.seq_length % mp:
        message = f"mp = {mp} does not divide {parts.train.seq_length} tokens (sequence_parallel)"
        keys = ("parallel.sequence_parallel",)
        yield fault(parts, "G2-203", "train.seq_length", message, *keys, compared=("parallel.mp",))


def _chosen(parts: Parts, _: GPT2Config) -> Iterator[Fault]:
    """Yield faults of a layout that is both given and to be chosen for ``devices``."""
    if not parts.parallel.devices:
        return
    for key in ("dp", "mp", "pp", "micro_batches", "recompute", "optimizer_shard"):
        if parts.origin(f"parallel.{key}") != "default":
            message = "devices chooses it; leave one of both out"
            yield fault(parts, "G2-105", f"parallel.{key}", message, compared=("parallel.devices",))


def undivided(parallel: Parallel, geometry: GPT2Config) -> Iterator[tuple[str, str]]:
    """Yield a key and a message for each size of the network that a layout does not divide."""
    mp, pp = parallel.mp, parallel.pp
    widths = {
        f"the {counted(geometry.heads, 'head')}": geometry.heads,
        f"the inner width {geometry.inner_width}": geometry.inner_width,
    }
    indivisible = [str(PADDED_TO)] if PADDED_TO % mp else []
    indivisible += [words for words, width in widths.items() if width % mp]
    if indivisible:
        sizes = (PADDED_TO, *widths.values())
        divisors = [n for n in range(1, PADDED_TO + 1) if not any(width % n for width in sizes)]
        words = ", nor ".join(indivisible)
        yield "mp", f"{mp} does not divide {words}; {', '.join(map(str, divisors))} do"
    if pp > geometry.layers:
        yield "pp", f"{pp} stages can't share {counted(geometry.layers, 'layer')}; each needs one"


def _rows(parts: Parts, _: GPT2Config) -> Iterator[Fault]:
    rows, dp, micro = parts.train.batch_size, parts.parallel.dp, parts.parallel.micro_batches
    if parts.reads_rows and rows % (dp * micro):
        message = f"{counted(rows, 'row')} do not divide by dp = {dp} times micro_batches = {micro}"
        yield fault(
            parts,
            "G2-203",
            "train.batch_size",
            message,
            "parallel.dp",
            "parallel.micro_batches",
        )


def _length(parts: Parts, geometry: GPT2Config) -> Iterator[Fault]:
    length = parts.train.seq_length
    if parts.reads_rows and length > geometry.positions:
        default = " (the default)" if parts.origin("train.seq_length") == "default" else ""
        message = (
            f"{length} tokens{default} are more than the model's {geometry.positions} positions"
        )
        yield fault(
            parts,
            "G2-204",
            "train.seq_length",
            message,
            "model.positions",
            "model.size",
            "model.weights",
            "task.data",
            compared=NETWORK,
        )


def _rate(parts: Parts, _: GPT2Config) -> Iterator[Fault]:
    if not parts.trains:
        return
    schedule, lr = parts.schedule, parts.optim.lr
    if schedule.kind in ("cosine", "cosine_restarts", "polynomial") and schedule.end > lr:
        message = f"{schedule.end:g} at the end is above the peak, optim.lr = {lr:g}"
        yield fault(
            parts, "G2-202", "schedule.end", message, "optim.lr", compared=("schedule.kind",)
        )
    if parts.train.steps is not None:
        yield from warmup(parts, parts.train.steps)


def warmup(parts: Parts, steps: int | None) -> Iterator[Fault]:
    """Yield the fault of a warm-up that takes all steps; None where their number is unknown."""
    if not (parts.trains and steps):
        return
    warm = warmup_steps(parts.schedule, steps)
    if steps > warm:
        return
    message = f"{counted(warm, 'step')} of warm-up leave none of the {counted(steps, 'step')}"
    keys = ("train.steps", "train.epochs")
    yield fault(
        parts, "G2-202", "schedule.warmup", message, *keys, compared=("train", "data", *NETWORK)
    )
