"""``gpt2dsl new``: scaffolding of a package of recipes."""

from __future__ import annotations

from pathlib import Path

import click

from gpt2dsl.library import scaffold


@click.command("new", help="Create a package of recipes, with tests, in a folder NAME.")
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), default=".", help="Parent of the folder.")
def command(name: str, into: Path) -> None:
    folder = scaffold.write(name, into)
    click.echo(f"{folder}: pip install -e '{folder}[test]', and gpt2dsl list shows it")
