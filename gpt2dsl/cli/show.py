"""``gpt2dsl show``: a recipe as TOML or Python."""

from __future__ import annotations

import click

from gpt2dsl.cli import options
from gpt2dsl.parts import Task
from gpt2dsl.recipe import Recipe


@click.command("show", help="Print SPEC as TOML or Python.")
@options.spec
@options.settings
@click.option("--as", "form", type=click.Choice(["toml", "python"]), default="toml")
def command(spec: str, settings: tuple[str, ...], form: str) -> None:
    """Print a recipe."""
    recipe = Recipe.load(spec, settings)
    if form == "toml":
        click.echo(recipe.to_toml(), nl=False)
        return
    click.echo(python_of(recipe))


def python_of(recipe: Recipe) -> str:
    """A module that builds a recipe."""
    names = sorted(
        {
            "Task" if isinstance(part, Task) else type(part).__name__
            for part in recipe.parts.values()
        }
    )
    names = names if len(recipe.parts) > 1 else sorted([*names, "Recipe"])
    code = repr(recipe).replace(" | ", "\n    | ")
    return f"from gpt2dsl import {', '.join(names)}\n\nrecipe = (\n    {code}\n)"
