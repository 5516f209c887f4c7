"""``gpt2dsl tokenizer train``: a vocabulary of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from gpt2dsl.parts.data import FORMATS


@click.group("tokenizer", help="Tokenizers.")
def command() -> None:
    """Tokenizers."""


@command.command("train", help="Train a byte-level BPE vocabulary on SRC into the folder DST.")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--vocab", type=click.IntRange(min=257), default=2048, show_default=True)
@click.option("--format", "form", type=click.Choice(FORMATS[:4]), default="text", show_default=True)
@click.option("--text-column", default="text", show_default=True, help="Of jsonl, csv and tsv.")
def train(source: str, target: str, vocab: int, form: str, text_column: str) -> None:
    """Train a vocabulary."""
    from gpt2dsl.engine.prepare import train_tokenizer  # noqa: PLC0415  # NumPy and more

    size = train_tokenizer(source, Path(target), vocab, form, text_column)
    click.echo(f"{size:,} entries   {target}")
