"""``gpt2dsl run``: plan, show, run; prints the result."""

from __future__ import annotations

import shlex

import click

from gpt2dsl.cli import options
from gpt2dsl.recipe import Recipe


@click.command("run", help="Plan, show and run SPEC; print the result.")
@options.spec
@options.settings
@options.as_json
def command(spec: str, settings: tuple[str, ...], as_json: bool) -> None:
    """Plan, show and run a recipe."""
    plan = Recipe.load(spec, settings).plan(prepare=True)
    click.echo(str(plan), err=True)
    result = plan.run(resume_command=_again(spec, settings))
    if as_json:
        options.echo_json(result.to_json())
    else:
        click.echo(str(result))


def _again(spec: str, settings: tuple[str, ...]) -> str:
    """The command that goes on after an interruption."""
    words = ["gpt2dsl", "run", spec]
    for setting in settings:
        words += ["--set", setting]
    return shlex.join(words)
