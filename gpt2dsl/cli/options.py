"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from gpt2dsl.layout.geometry import ACTIVATIONS
from gpt2dsl.parts.model import ALIASES, SIZES

spec = click.argument("spec")
settings = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value: optim.lr=3e-4."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
base = click.option("--base", metavar="WEIGHTS", help="What an adapter belongs to.")


def hints(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a .ckpt does not say where no YAML lies beside it."""
    for option in (
        click.option("--activation", type=click.Choice(ACTIVATIONS), help="Of a .ckpt's network."),
        click.option("--heads", type=click.IntRange(min=1), help="Of a .ckpt's network."),
        click.option("--size", type=click.Choice((*SIZES, *ALIASES)), help="Of a .ckpt's network."),
    ):
        command = option(command)
    return command


def echo_json(document: Any) -> None:
    """Print a JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
