"""``gpt2dsl list``: the recipes of the library."""

from __future__ import annotations

import click

from gpt2dsl import library
from gpt2dsl.chain import specs
from gpt2dsl.chain.chain import Chain
from gpt2dsl.cli import options, table

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
    found = specs.load(entry.name)
    stages = [one.completed for one in (found.recipes if isinstance(found, Chain) else (found,))]
    return {
        "name": entry.name,
        "version": entry.version,
        "task": ", ".join(parts.task.name for parts in stages if parts.task),
        "size": stages[0].model.canonical_size,
        "devices": str(max(one.parallel.devices or one.parallel.ranks for one in stages)),
        "package": entry.package,
    }
