"""``gpt2dsl serve``: completions over HTTP."""

from __future__ import annotations

import importlib.util

import click

from gpt2dsl.cli import options


@click.command(
    "serve",
    help="Serve WEIGHTS under an OpenAI-compatible /v1/completions: requests share one batch.",
)
@click.argument("weights")
@click.option("--name", help="Of the model, as requests say it; WEIGHTS where it is not said.")
@options.tokenizer
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Texts at once."
)
@click.option(
    "--queue", type=click.IntRange(min=1), default=128, show_default=True,
    help="Texts that may wait; more are refused with status 503.",
)  # fmt: skip
def command(
    *,
    weights: str,
    name: str | None,
    tokenizer: str | None,
    host: str,
    port: int,
    batch: int,
    queue: int,
) -> None:
    """Serve completions."""
    if not all(map(importlib.util.find_spec, ("fastapi", "uvicorn"))):
        raise click.UsageError("it needs: pip install 'gpt2dsl[serve]'")
    from gpt2dsl.serve.server import serve  # noqa: PLC0415  # imports MindSpore

    serve(
        weights,
        name or weights,
        tokenizer=tokenizer or "auto",
        host=host,
        port=port,
        batch=batch,
        waiting=queue,
    )
