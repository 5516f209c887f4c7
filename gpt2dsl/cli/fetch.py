"""``gpt2dsl fetch``: published weights from the Hugging Face Hub into its cache."""

from __future__ import annotations

import click

from gpt2dsl.cli import options
from gpt2dsl.errors import InputError


@click.command(
    "fetch", help="Fetch NAME (124m, gpt2-xl, cerebras/Cerebras-GPT-13B, ...) from the Hub."
)
@click.argument("name")
@options.quiet
def command(name: str) -> None:
    """Fetch weights, and print the folder that they are in."""
    from gpt2dsl.weights import hub  # noqa: PLC0415  # NumPy and more: only where it is called

    repo = hub.canonical(name)
    if repo is None:
        raise InputError("G2-301", name, "this is no size, and no name on the Hub: owner/name")
    click.echo(hub.fetch(repo))
