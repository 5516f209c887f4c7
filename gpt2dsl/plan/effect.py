"""Notes on values that were changed but have no effect, because of another value."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from gpt2dsl.data.form import TABLES
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts.bundle import Parts

_WITHOUT_ROWS = ("text", "wikitext", "mindrecord")

_OF_TRAINING = {
    "optim": None,
    "schedule": None,
    "train": ("epochs", "steps", "clip", "evaluate_every", "save_every", "keep", "best",
              "patience", "async_save", "export", "resume"),
    "model": ("dropout",),
    "parallel": ("micro_batches", "recompute", "optimizer_shard"),
    "precision": ("loss_scale",),
    "runtime": ("tensorboard",),
}  # fmt: skip
"""Table → its keys that only training reads; None for all of them."""

ROWS_AT_ONCE = "parallel.micro_batches"
"""Key of training that evaluation reads as well: it computes as many rows at a time."""


@attrs.frozen
class IneffectiveKey:
    """Keys that have an effect only under a condition.

    Attributes:
        keys: as ``table.key``.
        matters: predicate: whether they have an effect.
        why: the reason that they have none, appended to "changes nothing".
    """

    keys: tuple[str, ...]
    matters: Callable[[Parts, GPT2Config], bool]
    why: Callable[[Parts], str]


def _task(parts: Parts, key: str) -> object:
    return getattr(parts.task, key, None)


ROWS = (
    IneffectiveKey(
        ("optim.momentum",),
        lambda parts, _: parts.optim.name == "sgd",
        lambda parts: f": {parts.optim.name} has none",
    ),
    IneffectiveKey(
        ("optim.beta1", "optim.beta2", "optim.eps", "optim.bias_correction"),
        lambda parts, _: parts.optim.name == "adamw",
        lambda parts: f": {parts.optim.name} has none",
    ),
    IneffectiveKey(
        ("schedule.power",),
        lambda parts, _: parts.schedule.kind == "polynomial",
        lambda parts: f" with schedule.kind = {parts.schedule.kind}; polynomial has it",
    ),
    IneffectiveKey(
        ("schedule.cycles",),
        lambda parts, _: parts.schedule.kind == "cosine_restarts",
        lambda parts: f" with schedule.kind = {parts.schedule.kind}; cosine_restarts has it",
    ),
    IneffectiveKey(
        ("schedule.end",),
        lambda parts, _: parts.schedule.kind not in ("constant", "linear"),
        lambda parts: f" with schedule.kind = {parts.schedule.kind}; cosine and polynomial have it",
    ),
    IneffectiveKey(
        ("train.evaluate_every",),
        lambda parts, _: bool(_task(parts, "eval_data")),
        lambda _: " without task.eval_data",
    ),
    IneffectiveKey(
        ("precision.loss_scale",),
        lambda parts, _: parts.precision.compute == "float16",
        lambda parts: f" in {parts.precision.compute}",
    ),
    IneffectiveKey(
        ("parallel.optimizer_shard",),
        lambda parts, _: parts.parallel.dp > 1,
        lambda _: ": dp is 1, there is no other copy",
    ),
    IneffectiveKey(
        ("parallel.sequence_parallel",),
        lambda parts, _: parts.parallel.mp > 1,
        lambda _: ": mp is 1, each layer is on one rank",
    ),
    IneffectiveKey(
        ("runtime.rank_table",),
        lambda parts, _: parts.runtime.device == "ascend",
        lambda parts: f" on {parts.runtime.device}; ascend reads it",
    ),
    IneffectiveKey(
        ("data.vocab",),
        lambda parts, _: parts.data.tokenizer == "train",
        lambda parts: f" with data.tokenizer = {parts.data.tokenizer}; train makes one",
    ),
    IneffectiveKey(
        ("data.text_column",),
        lambda parts, _: parts.data.format in TABLES,
        lambda parts: f" with data.format = {parts.data.format}",
    ),
    IneffectiveKey(
        ("data.label_column",),
        lambda parts, geometry: parts.data.format in TABLES and geometry.labels > 0,
        lambda parts: (
            " without a classifier"
            if parts.data.format in TABLES
            else f" with data.format = {parts.data.format}"
        ),
    ),
    IneffectiveKey(
        ("data.header", "data.quotes"),
        lambda parts, _: parts.data.format in ("csv", "tsv"),
        lambda parts: f" with data.format = {parts.data.format}; csv and tsv have it",
    ),
    IneffectiveKey(
        ("data.max_bad_rows",),
        lambda parts, _: parts.data.format not in _WITHOUT_ROWS,
        lambda parts: f" with data.format = {parts.data.format}, which has no rows",
    ),
    IneffectiveKey(
        ("model.allow_missing",),
        lambda parts, _: not parts.is_new,
        lambda _: ": all weights are new",
    ),
    IneffectiveKey(
        ("task.max_shard_size",),
        lambda parts, _: _task(parts, "to") == "hf",
        lambda parts: f" with task.to = {_task(parts, 'to')}; hf has shards",
    ),
    IneffectiveKey(
        ("task.batch",),
        lambda parts, _: _task(parts, "format") != "onnx",
        lambda _: " with task.format = onnx, whose model takes any number of rows",
    ),
    IneffectiveKey(
        ("train.batch_size", "train.seq_length"),
        lambda parts, _: parts.task is None or not parts.task.generates,
        lambda parts: f": {parts.task.kind if parts.task else ''} reads no rows",
    ),
    IneffectiveKey(
        ("generation.min_length",),
        lambda parts, _: not parts.generation.min_new_tokens,
        lambda _: " beside min_new_tokens",
    ),
)


def notes(parts: Parts, geometry: GPT2Config) -> Iterator[str]:
    """Yield a note for each value that was changed and has no effect."""
    if parts.task is None:
        return
    yield from _of_texts(parts)
    idle = () if parts.trains else tuple(_idle(parts))
    if idle:
        yield f"{', '.join(idle)} {_change(idle)} nothing: {parts.task.kind} trains nothing"
    for row in ROWS:
        for key in row.keys:
            table = key.partition(".")[0]
            heeded = _changed(parts, key) and not {key, table} & set(idle) and _reads(parts, table)
            if heeded and not row.matters(parts, geometry):
                yield f"{key} changes nothing{row.why(parts)}"


def _of_texts(parts: Parts) -> Iterator[str]:
    """Yield a note where a format of data is given beside a file of prompts or texts."""
    key = parts.task.texts_key if parts.task else ""
    if key and "format" in parts.data.changed() and isinstance(name := parts.value(key), str):
        how = "is read a line at a time, or as .jsonl"
        yield f"data.format changes nothing: {key} = {name} {how}"


def _idle(parts: Parts) -> Iterator[str]:
    """Yield tables and keys that only training reads."""
    for table, keys in _OF_TRAINING.items():
        part = getattr(parts, table)
        if part is parts.parallel and part.devices:
            continue  # the layout was chosen, not written by the user
        if keys is None and part.changed():
            yield table
        changed = [f"{table}.{key}" for key in keys or () if key in part.changed()]
        yield from (key for key in changed if not (key == ROWS_AT_ONCE and parts.reads_rows))


def _reads(parts: Parts, table: str) -> bool:
    """Return whether the task reads a table at all."""
    if table == "data":
        return parts.reads_rows
    return table != "generation" or (parts.task is not None and parts.task.generates)


def _changed(parts: Parts, key: str) -> bool:
    table, _, field = key.partition(".")
    part = getattr(parts, table)
    return part is not None and field in part.rules() and field in part.changed()


def _change(names: tuple[str, ...]) -> str:
    return "changes" if len(names) == 1 else "change"
