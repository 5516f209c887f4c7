"""``gpt2dsl list``: the recipes of the library."""

from __future__ import annotations

import click

from gpt2dsl import library
from gpt2dsl.cli import options, table
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.recipe import Recipe

_COLUMNS = ("name", "version", "task", "size", "devices", "package")


@click.command("list", help="The recipes of the library.")
@options.as_json
def command(as_json: bool) -> None:
    """List the recipes that are installed."""
    rows = [_row(entry) for entry in library.entries()]
    if as_json:
        options.echo_json(rows)
        return
    table.echo([_COLUMNS, *([row[column] for column in _COLUMNS] for row in rows)])


def _row(entry: library.Entry) -> dict[str, str]:
    parts = Parts.of(Recipe.load(entry.name).parts.values())
    return {
        "name": entry.name,
        "version": entry.version,
        "task": parts.task.name if parts.task else "",
        "size": parts.model.canonical_size,
        "devices": str(parts.parallel.devices or parts.parallel.ranks),
        "package": entry.package,
    }
