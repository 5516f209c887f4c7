"""``gpt2dsl export``: graphs for deployment."""

from __future__ import annotations

import click

from gpt2dsl.cli import options
from gpt2dsl.parts.task import Export
from gpt2dsl.recipe import Recipe

_RULES = Export.rules()


@click.command(
    "export",
    help="Export WEIGHTS to DST as graphs that need no framework: one for prompts, one for each "
    "token after them. They are run and compared with MindSpore before DST gets its name.",
)
@click.argument("source", metavar="WEIGHTS")
@click.argument("target", metavar="DST")
@click.option("--format", type=click.Choice(_RULES["format"].options), help="Default: mindir.")
@click.option("--seq-length", type=int, help="Tokens of prompt and text (default: all positions).")
@click.option("--batch", type=int, help="Rows (default 1).")
@click.option(
    "--dtype", type=click.Choice(_RULES["dtype"].options[1:]), help="Of the weights in the files."
)
@click.option("--no-cache", "cache", flag_value=False, default=None, help="One graph, all logits.")
@click.option(
    "--ge", type=click.Choice(_RULES["ge"].options[1:]), help="A config.ini for that Ascend."
)
@options.hints
@options.base
@options.as_json
def command(source: str, target: str, as_json: bool, **given: object) -> None:
    """Export weights."""
    of_task = ("format", "seq_length", "batch", "dtype", "cache", "ge")
    keys = {name: f"task.{name}" for name in of_task}
    keys |= {name: f"model.{name}" for name in ("size", "heads", "activation")}
    keys |= {"base": "model.weights"}
    recipe = Recipe().override(
        {
            "task.kind": ("export", "export"),
            "task.source": (source, "WEIGHTS"),
            "task.target": (target, "DST"),
            **{
                key: (given[name], f"--{name.replace('_', '-')}")
                for name, key in keys.items()
                if given[name] is not None
            },
        }
    )
    result = recipe.plan(prepare=True).run(keep=False)
    if as_json:
        options.echo_json(result.to_json())
    else:
        click.echo(str(result))
