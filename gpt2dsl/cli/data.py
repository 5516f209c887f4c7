"""``gpt2dsl data prepare``: conversion of texts to MindRecord files for MindFormers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gpt2dsl.cli import options
from gpt2dsl.data.table import CLASSES
from gpt2dsl.engine.interrupt import held
from gpt2dsl.errors import counted
from gpt2dsl.parts.data import FORMATS
from gpt2dsl.plan.checks import WITHOUT_CLASSES


@click.group("data", help="Prepare data.")
def command() -> None:
    """Prepare data."""


@command.command(
    "prepare", help="Tokenise SRC into DST, a folder of MindRecord files that MindFormers reads."
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@options.form(*(name for name in FORMATS if name != "mindrecord"))
@click.option("--seq-length", type=click.IntRange(min=1), required=True, help="Tokens per row.")
@click.option(
    "--evaluation",
    is_flag=True,
    help="For evaluation: the remainder is kept, and rows lack the extra token of training.",
)
@click.option("--tokenizer", default="gpt2", show_default=True, help="gpt2 or a folder.")
@click.option(
    "--shards", type=click.IntRange(min=1), default=1, show_default=True, help="Number of files."
)
@click.option(
    "--labels",
    metavar="NAMES",
    help="Class names separated by commas, or their number: write padded rows with a class.",
)
@click.option("--label-column", default="label", show_default=True, help="Column of the class.")
@options.quiet
@options.as_json
def prepare(
    *,
    source: str,
    target: str,
    seq_length: int,
    evaluation: bool,
    tokenizer: str,
    shards: int,
    labels: str | None,
    label_column: str,
    as_json: bool,
    **form: Any,
) -> None:
    if labels is not None and (kind := form["form"] or "text") in WITHOUT_CLASSES:
        raise click.UsageError(f"--labels: {kind} has no classes; --format says another")
    if labels is not None and evaluation:
        raise click.UsageError("--evaluation: rows of classes are the same for both")
    with held():
        from gpt2dsl.engine import prepare as engine  # noqa: PLC0415  # imports MindSpore

    data = engine.opened(source, label_column=label_column, **form)
    common: dict[str, Any] = {"seq_length": seq_length, "tokenizer": tokenizer, "shards": shards}
    if labels is not None:
        summary = engine.prepare_classes(data, Path(target), _names(labels), **common)
    else:
        summary = engine.prepare(data, Path(target), evaluation=evaluation, **common)
        if form["form"] in CLASSES:
            click.echo("rows of text: the classes are left out; --labels writes them", err=True)
    if as_json:
        options.echo_json(summary)
    else:
        click.echo(
            f"{counted(summary['rows'], 'row')} of {summary['row_tokens']:,} tokens   {target}"
        )


def _names(labels: str) -> tuple[str, ...]:
    """Return class names from a list of names or a number of classes."""
    if labels.isdigit() and int(labels):
        return tuple(f"LABEL_{i}" for i in range(int(labels)))
    names = tuple(name.strip() for name in labels.split(","))
    if len(set(names)) < max(2, len(names)) or not all(names):
        raise click.UsageError(
            f"--labels: expected a number or two names at least, found {labels!r}"
        )
    return names
