"""``gpt2dsl generate``: continue a text with given weights."""

from __future__ import annotations

import click

from gpt2dsl.cli import options
from gpt2dsl.parts import Generation
from gpt2dsl.recipe import Recipe


def _option(name: str, kind: type) -> click.Option:
    """The option of a field of ``[generation]``; its text is the field's own."""
    rule = Generation.rules()[name]
    flag = f"--{name.replace('_', '-')}"
    return click.Option(
        [flag, name], is_flag=kind is bool, type=None if kind is bool else kind, default=None,
        help=f"{rule.doc} (default {getattr(Generation(), name)}).",
    )  # fmt: skip


@click.command(
    "generate",
    help="Continue texts with WEIGHTS: a folder, a run, a checkpoint, a size, a name on the Hub.",
)
@click.argument("weights")
@click.option("--prompt", "prompts", multiple=True, help="A text to continue; several are allowed.")
@options.as_json
def command(weights: str, prompts: tuple[str, ...], as_json: bool, **given: object) -> None:
    """Continue texts with given weights."""
    if not prompts:
        raise click.UsageError("expected --prompt TEXT")
    recipe = Recipe().override(
        {
            "model.weights": (weights, "WEIGHTS"),
            "task.kind": ("generate", "--prompt"),
            "task.prompts": (prompts, "--prompt"),
            **{
                f"generation.{name}": (value, f"--{name.replace('_', '-')}")
                for name, value in given.items()
                if value is not None
            },
        }
    )
    result = recipe.plan().run(keep=False)
    if as_json:
        options.echo_json(result.to_json())
    else:
        click.echo(str(result))


command.params += [
    _option(name, kind)
    for name, kind in (
        ("max_new_tokens", int),
        ("do_sample", bool),
        ("temperature", float),
        ("top_k", int),
        ("top_p", float),
        ("seed", int),
    )
]
