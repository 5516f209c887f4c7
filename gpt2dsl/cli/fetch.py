"""``gpt2dsl fetch``: download of published weights from the Hugging Face Hub to its cache."""

from __future__ import annotations

import click

from gpt2dsl.cli import options
from gpt2dsl.errors import InputError


@click.command(
    "fetch", help="Download NAME (124m, gpt2-xl, cerebras/Cerebras-GPT-13B, ...) from the Hub."
)
@click.argument("name")
@options.quiet
def command(name: str) -> None:
    from gpt2dsl.weights import hub  # noqa: PLC0415  # imports NumPy and more

    repo = hub.canonical(name)
    if repo is None:
        raise InputError("G2-301", name, "this is no size, and no name on the Hub: owner/name")
    click.echo(hub.fetch(repo))
