"""``gpt2dsl serve``: server of completions and chats over HTTP."""

from __future__ import annotations

from typing import Any

import click

from gpt2dsl.cli import options
from gpt2dsl.parts.task import Serve
from gpt2dsl.plan import serving
from gpt2dsl.recipe import Recipe
from gpt2dsl.serve.settings import ServerSettings, listen, named_adapters, refuse_absent
from gpt2dsl.serve.stop import Stop

_DEFAULT = Serve()


@click.command(
    "serve",
    help="Serve WEIGHTS under an OpenAI-compatible API: requests share one batch.",
)
@options.weights()
@click.option("--name", help="Of the model, as requests say it; WEIGHTS where it is not said.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME=PATH",
    help="A LoRA adapter of WEIGHTS, which requests ask for by this name; several are allowed.",
)
@options.tokenizer
@click.option(
    "--template",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    default=_DEFAULT.template,
    help="A chat template in Jinja, in place of the tokenizer's own.",
)
@click.option("--host", default=_DEFAULT.host, show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=_DEFAULT.port, show_default=True)
@click.option(
    "--allowed-host",
    "allowed_hosts",
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
    multiple=True,
    metavar="ORIGIN",
    help="Of pages that may read its answers: https://example.org, or * for any.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=_DEFAULT.batch,
    show_default=True,
    help="Texts at once.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    default=_DEFAULT.queue,
    show_default=True,
    help="Texts that may wait; more are refused with status 503.",
)
@click.option(
    "--cache-mb",
    type=click.IntRange(min=0),
    default=_DEFAULT.cache_mb,
    show_default=True,
    metavar="MB",
    help="Kept of prompts, for those that begin alike.",
)
@click.option(
    "--warmup/--no-warmup",
    default=_DEFAULT.warmup,
    show_default=True,
    help="Compile for all lengths before it is ready, so that no text waits for it later.",
)
@click.option(
    "--max-body",
    type=click.IntRange(min=1),
    default=_DEFAULT.max_body,
    show_default=True,
    metavar="BYTES",
    help="Of a request; larger ones are refused with status 413.",
)
@click.option(
    "--max-stops",
    type=click.IntRange(min=0),
    default=_DEFAULT.max_stops,
    show_default=True,
    help="Stop strings of a request.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=_DEFAULT.grace,
    show_default=True,
    metavar="SECONDS",
    help="For what runs when it is asked to stop.",
)
@options.quiet
@click.option("--check", "checks", is_flag=True, help="Load, ask each model once, and end.")
def command(
    *,
    weights: str,
    name: str | None,
    adapters: tuple[str, ...],
    tokenizer: str | None,
    api_key: str | None,
    insecure: bool,
    checks: bool,
    **task_options: Any,
) -> None:
    name = name or click.get_current_context().meta[options.WRITTEN]
    if missing := serving.missing():
        raise click.UsageError(missing)
    if not task_options["host"]:
        raise click.UsageError("--host is empty: 0.0.0.0 and :: are every address of this machine")
    if api_key is not None and not api_key.strip():
        raise click.UsageError("--api-key is empty; leave it out where no key is needed")
    with Stop(is_process=True) as stop:
        settings = ServerSettings.of(
            _task(task_options),
            key=api_key or "",
            is_open=insecure,
            tokenizer=tokenizer or "auto",
            adapters=named_adapters(adapters, name),
            checks=checks,
        )
        refuse_absent(weights, settings)
        listening = listen(settings)
        from gpt2dsl.serve.server import serve  # noqa: PLC0415  # imports MindSpore

        stop.restore()
        serve(weights, name, settings, listening, stop)


def _task(task_options: dict[str, Any]) -> Serve:
    """Return the task given by options.

    Raises:
        SpecError: every invalid value.
    """
    present = {key: value for key, value in task_options.items() if value != ()}
    values = {
        f"task.{key}": (value, f"--{key.replace('_', '-')}") for key, value in present.items()
    }
    task = Recipe().override({"task.kind": ("serve", "serve"), **values}).parts["task"]
    assert isinstance(task, Serve)
    return task
