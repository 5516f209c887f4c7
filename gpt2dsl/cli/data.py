"""``gpt2dsl data prepare``: texts into MindRecord, as MindFormers reads it."""

from __future__ import annotations

from pathlib import Path

import click

from gpt2dsl.cli import options
from gpt2dsl.parts.data import FORMATS


@click.group("data", help="Prepare data.")
def command() -> None:
    """Prepare data."""


@command.command(
    "prepare", help="Tokenise SRC into DST: a folder of MindRecord files that MindFormers reads."
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--format",
    "form",
    type=click.Choice([f for f in FORMATS if f != "mindrecord"]),
    default="text",
    show_default=True,
)
@click.option("--seq-length", type=click.IntRange(min=1), required=True, help="Tokens.")
@click.option(
    "--evaluation",
    is_flag=True,
    help="Rows of as many tokens, and the rest at the end; else of one more, for training.",
)
@click.option("--tokenizer", default="gpt2", show_default=True, help="gpt2, or a folder.")
@click.option("--shards", type=click.IntRange(min=1), default=1, show_default=True, help="Files.")
@click.option("--text-column", default="text", show_default=True, help="Of jsonl, csv and tsv.")
@click.option("--max-bad-rows", type=click.IntRange(min=0), default=0, show_default=True)
@options.as_json
def prepare(source: str, target: Path, as_json: bool, **given: object) -> None:
    """Tokenise texts into MindRecord."""
    from gpt2dsl.engine.prepare import prepare as run  # noqa: PLC0415  # it imports MindSpore

    found = run(source, Path(target), **given)  # type: ignore[arg-type]
    if as_json:
        options.echo_json(found)
    else:
        click.echo(f"{found['rows']:,} rows of {found['row_tokens']:,} tokens   {target}")
