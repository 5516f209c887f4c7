"""``gpt2dsl export``: export of graphs for deployment."""

from __future__ import annotations

import click

from gpt2dsl.cli import conversion, options
from gpt2dsl.parts.task import Export

_RULES = Export.rules()


@click.command(
    "export",
    help="Export WEIGHTS to DST as graphs that need no framework: with mindir and ms, one for "
    "prompts and one for each token after them; with onnx, one for both. They are run and "
    "compared with MindSpore before DST is created.",
)
@options.weights("source", "WEIGHTS")
@click.argument("target", metavar="DST")
@click.option("--format", type=click.Choice(_RULES["format"].options), help="Default: mindir.")
@click.option(
    "--seq-length", type=int, help="Maximum tokens, prompt included (default: all positions)."
)
@click.option("--batch", type=int, help="Batch size (default 1).")
@click.option(
    "--dtype",
    type=click.Choice(_RULES["dtype"].options[1:]),
    help="Type of the weights in the files.",
)
@click.option(
    "--no-cache",
    "cache",
    flag_value=False,
    default=None,
    help="One graph that computes all logits.",
)
@click.option(
    "--ge", type=click.Choice(_RULES["ge"].options[1:]), help="Add a config.ini for this Ascend."
)
@options.overrides
@options.base
@options.quiet
@options.as_json
def command(source: str, target: str, as_json: bool, **options_given: object) -> None:
    of_task = ("format", "seq_length", "batch", "dtype", "cache", "ge")
    keys = {name: f"task.{name}" for name in of_task} | options.OF_NETWORK
    keys |= {"base": "model.weights"}
    conversion.run("export", source, target, options_given, keys, called="WEIGHTS", as_json=as_json)
