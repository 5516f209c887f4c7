"""``gpt2dsl reshard``: conversion of a checkpoint to another parallel layout."""

from __future__ import annotations

import click

from gpt2dsl.cli import conversion, options


class _Layout(click.ParamType[object]):
    """The option type of layouts, ``dp=2,mp=4,optimizer_shard=true``, as in ``[parallel]``."""

    name = "LAYOUT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        layout: dict[str, object] = {}
        for pair in str(value).split(","):
            key, equals, text = pair.strip().partition("=")
            flags = {"true": True, "false": False}
            if not equals or key in layout:
                message = "expected dp=2,mp=4,pp=1 or some of them, optimizer_shard=true"
                self.fail(f"{message}; found {value!r}", param, ctx)
            layout[key] = int(text) if text.isdecimal() else flags.get(text, text)
        return layout


@click.command(
    "reshard",
    help="Convert the checkpoint SRC to another parallel layout in DST, without a cluster. SRC is "
    "a run or checkpoint, weights of any format, or a folder with rank_0, rank_1, ... DST gets "
    "such folders and their strategy files; for a single rank, it is a Hugging Face folder.",
)
@options.weights("source", "SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--to",
    type=_Layout(),
    required=True,
    help="Layout of DST: dp=2,mp=4,pp=1,optimizer_shard=true, or some of them.",
)
@click.option("--from", "from", type=_Layout(), help="Layout of SRC, if it has no record of it.")
@click.option("--strategy", metavar="PATH", help="Strategy file of SRC, or the folder with all.")
@click.option("--optimizer", is_flag=True, default=None, help="Convert the optimizer state too.")
@options.overrides
@options.quiet
@options.as_json
def command(source: str, target: str, as_json: bool, **options_given: object) -> None:
    keys = {
        "to": "task.layout",
        "from": "task.source_layout",
        "strategy": "task.source_strategy",
        "optimizer": "task.optimizer",
    }
    keys |= options.OF_NETWORK
    conversion.run("reshard", source, target, options_given, keys, as_json=as_json)
