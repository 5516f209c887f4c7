"""``gpt2dsl convert``: conversion of weights from one format to another."""

from __future__ import annotations

import click

from gpt2dsl.cli import conversion, options
from gpt2dsl.parts.task import TARGET_DTYPES


@click.command(
    "convert",
    help="Convert SRC to DST: a folder, or a file ending in .ckpt. SRC is a folder or file "
    "of Hugging Face, MindFormers or PEFT, a run or checkpoint, or a name on the Hub.",
)
@options.weights("source", "SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--to", type=click.Choice(("hf", "mindformers", "peft")), help="Target format (default hf)."
)
@click.option("--dtype", type=click.Choice(TARGET_DTYPES[1:]), help="Default: that of SRC.")
@click.option("--merge", is_flag=True, default=None, help="Merge the LoRA adapter into its base.")
@click.option("--max-shard-size", metavar="SIZE", help="Maximum size of an hf file (default 5GB).")
@options.overrides
@options.base
@click.option(
    "--allow-missing",
    metavar="REGEX",
    help="Parameters that SRC may lack; they are reported and get new values.",
)
@options.quiet
@options.as_json
def command(source: str, target: str, as_json: bool, **options_given: object) -> None:
    of_task = ("to", "dtype", "merge", "max_shard_size")
    keys = {name: f"task.{name}" for name in of_task} | options.OF_NETWORK
    keys |= {"base": "model.weights", "allow_missing": "model.allow_missing"}
    conversion.run("convert", source, target, options_given, keys, as_json=as_json)
