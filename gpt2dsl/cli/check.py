"""``gpt2dsl check``: every fault of the given recipes, in one report."""

from __future__ import annotations

from collections.abc import Iterator

import click

from gpt2dsl.chain import specs
from gpt2dsl.chain.chain import Chain
from gpt2dsl.cli import options
from gpt2dsl.cluster import devices
from gpt2dsl.recipe import Recipe
from gpt2dsl.spec.report import report


@click.command("check", help="Print every fault of the SPECs; exit with code 2 if there is one.")
@click.argument("names", nargs=-1, required=True, metavar="SPEC...")
@options.settings
@options.as_json
@click.pass_context
def command(
    context: click.Context, names: tuple[str, ...], settings: tuple[str, ...], as_json: bool
) -> None:
    examined = [specs.examine(name, settings) for name in names]
    faults = [fault for _, wrong in examined for fault in wrong]
    if as_json:
        ordered = sorted(faults, key=lambda fault: fault.order)
        options.echo_json([fault.to_json() for fault in ordered])
    elif faults:
        click.echo(report(faults))
    else:
        click.echo("no faults")
        for reason in sorted({why for recipe, _ in examined for why in _absent_devices(recipe)}):
            click.echo(f"note: {reason}; here a run would be refused")
    context.exit(2 if faults else 0)


def _absent_devices(recipe: Recipe | Chain) -> Iterator[str]:
    """Yield why this machine lacks devices of a recipe; another machine may have them."""
    stages = recipe.recipes if isinstance(recipe, Chain) else (recipe,)
    yield from filter(None, (devices.refusal(stage.completed) for stage in stages))
