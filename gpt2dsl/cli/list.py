"""``gpt2dsl list``: the recipes of the library."""

from __future__ import annotations

import click

from gpt2dsl import library, terminal
from gpt2dsl.chain import specs
from gpt2dsl.chain.chain import Chain
from gpt2dsl.cli import options, table
from gpt2dsl.errors import SpecError

_COLUMNS = ("name", "version", "task", "size", "devices", "package")


@click.command("list", help="List the recipes of the library.")
@options.as_json
def command(as_json: bool) -> None:
    rows = [row for entry in library.entries() if (row := _row(entry))]
    if as_json:
        options.echo_json(rows)
        return
    table.echo([_COLUMNS, *([row[column] for column in _COLUMNS] for row in rows)])


def _row(entry: library.LibraryEntry) -> dict[str, str] | None:
    """Return the row of a recipe; None, with a message, if it can't be used."""
    try:
        recipe = specs.shared(entry)
    except SpecError as error:
        terminal.say(f"passed over: {entry.name} of {entry.package}: {error}")
        return None
    stages = [
        stage.completed for stage in (recipe.recipes if isinstance(recipe, Chain) else (recipe,))
    ]
    return {
        "name": entry.name,
        "version": entry.version,
        "task": ", ".join(parts.task.kind for parts in stages if parts.task),
        "size": stages[0].model.canonical_size,
        "devices": str(max(stage.parallel.devices or stage.parallel.ranks for stage in stages)),
        "package": entry.package,
    }
