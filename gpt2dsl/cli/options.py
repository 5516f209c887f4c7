"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from typing import Any

import click

spec = click.argument("spec")
settings = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value: optim.lr=3e-4."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def echo_json(document: Any) -> None:
    """Print a JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
