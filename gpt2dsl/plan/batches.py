"""Inputs of a run, and the rows, batches and steps of its data."""

from __future__ import annotations

import attrs

from gpt2dsl.data.classes import labels_of
from gpt2dsl.data.source import Source
from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import REGRESSION
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan import cluster, inputs
from gpt2dsl.plan.inputs import Input
from gpt2dsl.plan.network import Network
from gpt2dsl.plan.tasks import plan_of


@attrs.frozen(kw_only=True)
class Batches:
    """Rows, batches and steps of the data.

    Attributes:
        rows: full rows of the data; None until it has been tokenised.
        row_tokens: tokens of a row, including the label of the last one.
        batch: rows of an optimizer step, over all ranks.
        per_rank: rows of a micro-batch on a rank.
        steps: optimizer steps; None where they depend on rows that are not counted yet.
        epochs: passes over the data; None where the recipe sets steps instead.
    """

    rows: int | None
    row_tokens: int
    batch: int
    per_rank: int
    steps: int | None
    epochs: int | None


def read_by(
    parts: Parts, network: Network, *, prepare: bool = False
) -> tuple[Network, Batches | None, list[Input]]:
    """Return the inputs of a recipe and the batches of its data.

    Args:
        parts: the recipe's.
        network: the recipe's.
        prepare: whether to tokenise data that has not been yet.

    Returns:
        The network with the tokenizer of the data, the batches, and the inputs.
    """
    sources = {
        key: inputs.find_source(
            parts, key, network.classes, network.geometry.problem, whole=prepare
        )
        for key in (parts.task.data_keys if parts.task else ())
        if parts.value(key)
    }
    read = [*network.inputs, *(item for item, _ in sources.values())]
    read += [*plan_of(parts).files(), *cluster.rank_table(parts)]
    opened = {key: source for key, (_, source) in sources.items() if source}
    network = attrs.evolve(network, sources=opened)
    if "task.data" not in sources:
        return network, None, read
    data, source = sources["task.data"]
    refused = [item.key for item in read if item.refusals]
    if "data.tokenizer" in refused:
        source = None  # its tokens can't be counted
    try:
        network, batches = _cut(parts, network, source, ready=prepare and not refused)
    except InputError as error:  # the number of rows of MindRecord is in its index
        if prepare:
            raise
        read.append(inputs.refused(parts, data.key, data.name, error, ("train", *inputs.READ_BY)))
        network, batches = _cut(parts, network, None, ready=False)
    return network, batches, read + _too_short(parts, network, batches, data, source)


def _cut(
    parts: Parts, network: Network, source: Source | None, *, ready: bool
) -> tuple[Network, Batches]:
    """Return the network with the tokenizer of the data, and the batches.

    Args:
        parts: the recipe's.
        network: the recipe's.
        source: the data; None where it is unusable.
        ready: whether to tokenise it now, if it has not been yet.
    """
    train = parts.train
    network, count = _rows(parts, network, source, ready=ready) if source else (network, None)
    trains = parts.trains
    steps = train.steps if trains else 0
    if trains and steps is None and count is not None:
        steps = count * train.passes // train.batch_size
    return network, Batches(
        rows=count,
        row_tokens=train.seq_length + (0 if network.geometry.labels else 1),
        batch=train.batch_size,
        per_rank=max(1, train.batch_size // parts.parallel.dp // parts.parallel.micro_batches),
        steps=steps,
        epochs=train.passes if trains and train.steps is None else None,
    )


def _rows(
    parts: Parts, network: Network, source: Source, *, ready: bool
) -> tuple[Network, int | None]:
    """Return the network with the tokenizer of the data, and the number of rows if known."""
    if parts.data.format == "mindrecord":
        from gpt2dsl.data import mindrecord  # noqa: PLC0415  # NumPy: only where there is data

        return network, mindrecord.count(source)
    if network.geometry.labels:
        return _examples(parts, network, source) if ready else (network, None)
    network, tokens = _tokens(parts, network, source, ready=ready)
    return network, None if tokens is None else max(0, tokens - 1) // parts.train.seq_length


def _examples(parts: Parts, network: Network, source: Source) -> tuple[Network, int]:
    """Return the network with the tokenizer of labelled texts, and the number of texts."""
    from gpt2dsl.data import prepare  # noqa: PLC0415  # as above

    is_regression = network.geometry.problem == REGRESSION
    labels = labels_of(network.classes, source.form, is_regression=is_regression)
    rows = source.look(number=labels.number).rows
    tokenizer = prepare.tokenizer(network.tokenizer, source, parts.data.vocab)
    return _with_tokenizer(parts, network, tokenizer), rows


def _tokens(
    parts: Parts, network: Network, source: Source, *, ready: bool
) -> tuple[Network, int | None]:
    """Return the network with the tokenizer of the data, and the number of tokens if known."""
    if not network.tokenizer:
        return network, None
    from gpt2dsl.data import prepare  # noqa: PLC0415  # NumPy: only where there is data

    vocab = parts.data.vocab
    if ready:
        tokenizer = prepare.tokenizer(network.tokenizer, source, vocab)
        tokens = len(prepare.stream(source, tokenizer))
        return _with_tokenizer(parts, network, tokenizer), tokens
    if known := prepare.known_tokenizer(network.tokenizer, source, vocab):
        return _with_tokenizer(parts, network, known), prepare.known_tokens(source, known)
    return network, None


def _with_tokenizer(parts: Parts, network: Network, tokenizer: str) -> Network:
    """Return the network with the tokenizer of its data, and a note if its vocabulary is small."""
    from gpt2dsl.data import prepare  # noqa: PLC0415  # as above

    notes = network.notes
    if network.tokenizer == prepare.TRAIN:
        entries = prepare.entries(tokenizer)
        if entries < parts.data.vocab:
            words = f"data.vocab = {parts.data.vocab:,}, but the text gives {entries:,} entries"
            notes += (f"{words}: the other rows of the word table stand for nothing",)
    return attrs.evolve(network, tokenizer=tokenizer, notes=notes)


def _too_short(
    parts: Parts, network: Network, batches: Batches, data: Input, source: Source | None
) -> list[Input]:
    """Return the refusal of data that doesn't fill one batch, where that is known."""
    if source is None or not parts.trains:
        return []
    rows, qualifier = batches.rows, ""
    if rows is None:
        rows, qualifier = _most_rows(parts, network, source), "at most "
    if rows >= batches.batch:
        return []
    message = (
        f"too short: {qualifier}{rows:,} rows of {batches.row_tokens:,} tokens do not fill "
        f"a batch of {batches.batch:,}"
    )
    compared = ("train", "data", "classifier", "model")
    return [
        inputs.refused(
            parts, data.key, data.name, InputError("G2-305", data.name, message), compared
        )
    ]


def _most_rows(parts: Parts, network: Network, source: Source) -> int:
    """Return an upper bound of the number of rows, without tokenising."""
    if network.geometry.labels:
        return source.size  # a row of a table is a line
    # A token stands for at least one byte, or ends a document of at least one byte. A normalizer
    # may expand a byte to several; opening the tokenizer is not worth it for texts so short.
    return max(0, 2 * source.size - 1) // parts.train.seq_length
