"""``gpt2dsl lite``: setup of MindSpore Lite, and generation with exported graphs."""

from __future__ import annotations

import time
from typing import Any

import click

from gpt2dsl.cli import generate, options
from gpt2dsl.engine.interrupt import held


@click.group("lite", help="Set up MindSpore Lite, and generate with exported graphs.")
def command() -> None:
    """Deployment."""


@command.command("setup", help="Create an environment with mindspore-lite 2.0.0 in the cache.")
@click.option(
    "--python", default="", metavar="PATH", help="A Python 3.7 (default: search for one)."
)
def setup(python: str) -> None:
    from gpt2dsl.lite import setup  # noqa: PLC0415  # imported on demand

    click.echo(str(setup.set_up(python)))


@command.command("run", help="Continue texts with the graphs in DST, written by gpt2dsl export.")
@click.argument("folder", metavar="DST")
@click.option("--prompt", "prompts", multiple=True, help="A text to continue; may be repeated.")
@click.option("--prompts", "file", metavar="FILE", help="As for gpt2dsl generate.")
@options.tokenizer
@options.quiet
@options.as_json
@click.option("--jsonl", is_flag=True, help="Print a line of JSON for each text.")
def run(
    *,
    folder: str,
    prompts: tuple[str, ...],
    file: str | None,
    tokenizer: str | None,
    as_json: bool,
    jsonl: bool,
    **given: Any,
) -> None:
    asked, _ = generate.prompts_asked(prompts, file, as_json=as_json, jsonl=jsonl)
    from gpt2dsl.data import prompts as texts  # noqa: PLC0415  # as above
    from gpt2dsl.engine.job import Result  # noqa: PLC0415  # as above

    with held():
        from gpt2dsl.engine.exported import ExportedModel  # noqa: PLC0415  # imports MindSpore

    generation = generate.generation(given)
    inputs = texts.read(asked, "prompt")
    with ExportedModel.load(folder, tokenizer=tokenizer or "auto") as model:
        if generation.stream and not (as_json or jsonl):
            model.show(inputs, generation, lambda text: click.echo(text, nl=False))
            return
        started = time.perf_counter()
        continuations = model.continuations(inputs, generation)
        result = Result.generated(continuations, time.perf_counter() - started)
    generate.echo_texts(result, as_json=as_json, jsonl=jsonl)


run.params += generate.options_of_generation()
