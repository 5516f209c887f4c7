"""``gpt2dsl serve``: completions and chats over HTTP."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from gpt2dsl.cli import options
from gpt2dsl.serve.settings import Settings, listen, read_template

_NEEDS = ("fastapi", "uvicorn", "jinja2", "prometheus_client")


@click.command(
    "serve",
    help="Serve WEIGHTS under an OpenAI-compatible API: requests share one batch.",
)
@click.argument("weights")
@click.option("--name", help="Of the model, as requests say it; WEIGHTS where it is not said.")
@options.tokenizer
@click.option(
    "--template",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A chat template in Jinja, in place of the tokenizer's own.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--allowed-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name under which it may be asked, besides localhost and numbers; * for any.",
)
@click.option(
    "--api-key",
    envvar="GPT2DSL_API_KEY",
    show_envvar=True,
    metavar="KEY",
    help="That requests must carry. The variable is not in the list of processes, the option is.",
)
@click.option("--insecure", is_flag=True, help="Let others than this machine ask without a key.")
@click.option(
    "--cors",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Of pages that may read its answers: https://example.org, or * for any.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Texts at once."
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Texts that may wait; more are refused with status 503.",
)
@click.option(
    "--cache-mb",
    type=click.IntRange(min=0),
    default=256,
    show_default=True,
    metavar="MB",
    help="Kept of prompts, for those that begin alike.",
)
@click.option(
    "--warmup/--no-warmup",
    "warms_up",
    default=True,
    show_default=True,
    help="Compile for all lengths before it is ready, so that no text waits for it later.",
)
@click.option(
    "--max-body",
    type=click.IntRange(min=1),
    default=1 << 20,
    show_default=True,
    metavar="BYTES",
    help="Of a request; larger ones are refused with status 413.",
)
@click.option(
    "--max-stops",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Stop strings of a request.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="For what runs when it is asked to stop.",
)
@click.option("--check", "checks", is_flag=True, help="Load, answer one request, and end.")
def command(
    *,
    weights: str,
    name: str | None,
    tokenizer: str | None,
    template: Path | None,
    host: str,
    port: int,
    hosts: tuple[str, ...],
    api_key: str | None,
    insecure: bool,
    origins: tuple[str, ...],
    batch: int,
    queue: int,
    cache_mb: int,
    warms_up: bool,
    max_body: int,
    max_stops: int,
    grace: float,
    checks: bool,
) -> None:
    """Serve completions and chats."""
    if not all(map(importlib.util.find_spec, _NEEDS)):
        raise click.UsageError("it needs: pip install 'gpt2dsl[serve]'")
    if not host:
        raise click.UsageError("--host is empty: 0.0.0.0 and :: are every address of this machine")
    if api_key is not None and not api_key.strip():
        raise click.UsageError("--api-key is empty; leave it out where no key is needed")
    settings = Settings(
        host=host,
        port=port,
        hosts=hosts,
        key=api_key or "",
        origins=origins,
        is_open=insecure,
        grace=grace,
        tokenizer=tokenizer or "auto",
        template=read_template(template) if template else None,
        batch=batch,
        waiting=queue,
        cache=cache_mb << 20,
        warms_up=warms_up,
        max_body=max_body,
        max_stops=max_stops,
        checks=checks,
    )
    listening = listen(settings)
    from gpt2dsl.serve.server import serve  # noqa: PLC0415  # imports MindSpore

    serve(weights, name or weights, settings, listening)
