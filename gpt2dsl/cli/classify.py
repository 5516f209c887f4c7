"""``gpt2dsl classify``: classification of texts with given weights."""

from __future__ import annotations

import click

from gpt2dsl.cli import options
from gpt2dsl.recipe import Recipe


@click.command("classify", help="Classify texts with WEIGHTS that have a classification head.")
@options.weights()
@click.option("--text", "texts", multiple=True, help="A text to classify; may be repeated.")
@click.option(
    "--texts",
    "file",
    metavar="FILE",
    help="A file with a text per line, or a .jsonl; - for stdin.",
)
@options.tokenizer
@options.overrides
@options.quiet
@options.as_json
def command(
    *,
    weights: str,
    texts: tuple[str, ...],
    file: str | None,
    tokenizer: str | None,
    as_json: bool,
    **network: object,
) -> None:
    inputs, option = options.texts_or_file("text", texts, file)
    recipe = Recipe().override(
        {
            "model.weights": (weights, "WEIGHTS"),
            **options.network(network),
            **options.named_tokenizer(tokenizer),
            "task.kind": ("classify", option),
            "task.texts": (inputs, option),
        }
    )
    result = recipe.plan().run(keep=False)
    options.echo_result(result, as_json=as_json)
