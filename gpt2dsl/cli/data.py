"""``gpt2dsl data prepare``: texts into MindRecord, as MindFormers reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
@options.form(*(name for name in FORMATS if name != "mindrecord"))
@click.option("--seq-length", type=click.IntRange(min=1), required=True, help="Tokens.")
@click.option(
    "--evaluation",
    is_flag=True,
    help="Rows of as many tokens, and the rest at the end; else of one more, for training.",
)
@click.option("--tokenizer", default="gpt2", show_default=True, help="gpt2, or a folder.")
@click.option("--shards", type=click.IntRange(min=1), default=1, show_default=True, help="Files.")
@options.as_json
def prepare(
    *,
    source: str,
    target: str,
    seq_length: int,
    evaluation: bool,
    tokenizer: str,
    shards: int,
    as_json: bool,
    **form: Any,
) -> None:
    """Tokenise texts into MindRecord."""
    from gpt2dsl.engine import prepare as engine  # noqa: PLC0415  # it imports MindSpore

    found = engine.prepare(
        engine.opened(source, **form),
        Path(target),
        seq_length=seq_length,
        evaluation=evaluation,
        tokenizer=tokenizer,
        shards=shards,
    )
    if as_json:
        options.echo_json(found)
    else:
        click.echo(f"{found['rows']:,} rows of {found['row_tokens']:,} tokens   {target}")
