"""``gpt2dsl tokenizer train``: training of a vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gpt2dsl.cli import options
from gpt2dsl.parts.data import FORMATS


@click.group("tokenizer", help="Train tokenizers.")
def command() -> None:
    """Tokenizers."""


@command.command("train", help="Train a byte-level BPE vocabulary on SRC into the folder DST.")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--vocab", type=click.IntRange(min=257), default=2048, show_default=True)
@options.form(*(name for name in FORMATS if name != "mindrecord"))
@options.quiet
@options.as_json
def train(source: str, target: str, vocab: int, as_json: bool, **form: Any) -> None:
    from gpt2dsl.engine import prepare as engine  # noqa: PLC0415  # imports NumPy and more

    size = engine.train_tokenizer(engine.opened(source, **form), Path(target), vocab)
    if as_json:
        options.echo_json({"entries": size, "target": target})
    else:
        click.echo(f"{size:,} entries   {target}")
