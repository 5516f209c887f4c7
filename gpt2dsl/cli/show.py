"""``gpt2dsl show``: a recipe as TOML or Python."""

from __future__ import annotations

import click

from gpt2dsl.chain import specs
from gpt2dsl.chain.chain import Chain
from gpt2dsl.cli import options
from gpt2dsl.parts import Task
from gpt2dsl.recipe import Recipe


@click.command("show", help="Print SPEC as TOML or Python.")
@options.spec
@options.settings
@click.option("--as", "form", type=click.Choice(["toml", "python"]), default="toml")
def command(spec: str, settings: tuple[str, ...], form: str) -> None:
    recipe = specs.load(spec, settings)
    if form == "toml":
        click.echo(recipe.to_toml(), nl=False)
        return
    click.echo(python_of(recipe))


def python_of(recipe: Recipe | Chain) -> str:
    """Return the source of a module that builds a recipe or a chain."""
    recipes = recipe.recipes if isinstance(recipe, Chain) else (recipe,)
    names = {
        "Task" if isinstance(part, Task) else type(part).__name__
        for stage in recipes
        for part in stage.parts.values()
    }
    names |= {"Recipe"} if any(len(stage.parts) < 2 for stage in recipes) else set()
    names |= {"Chain"} if isinstance(recipe, Chain) and len(recipe) == 1 else set()
    code = repr(recipe).replace(" | ", "\n    | ").replace(" >> ", "\n    >> ")
    return f"from gpt2dsl import {', '.join(sorted(names))}\n\nrecipe = (\n    {code}\n)"
