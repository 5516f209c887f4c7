"""``gpt2dsl serve``: server of completions and chats over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from gpt2dsl.cli import options
from gpt2dsl.parts import Model
from gpt2dsl.parts.task import Serve
from gpt2dsl.plan import serving
from gpt2dsl.recipe import Recipe
from gpt2dsl.serve.settings import ServerSettings, listen, named_adapters, refuse_absent
from gpt2dsl.serve.stop import Stop


def _task_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each field of the task but its name."""
    command = options.of_field(Serve, "allowed_hosts", flag="--allowed-host", metavar="NAME")(
        command
    )
    for name in reversed([name for name in Serve.rules() if name not in ("name", "allowed_hosts")]):
        command = options.of_field(Serve, name)(command)
    return command


@click.command(
    "serve",
    help="Serve WEIGHTS under an OpenAI-compatible API: requests share one batch.",
)
@options.weights()
@click.option("--name", help="Name of the model in requests; default: WEIGHTS.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME=PATH",
    help="A LoRA adapter of WEIGHTS and its name in requests; may be repeated.",
)
@options.tokenizer
@options.overrides
@click.option(
    "--api-key",
    envvar="GPT2DSL_API_KEY",
    show_envvar=True,
    metavar="KEY",
    help="Key required of requests. Unlike the option, the variable is not in the process list.",
)
@click.option("--insecure", is_flag=True, help="Accept requests from other machines without a key.")
@_task_options
@options.quiet
@click.option(
    "--check", "checks", is_flag=True, help="Load, send each model one request, and exit."
)
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
    network = {name: task_options.pop(name) for name in options.OF_NETWORK}
    name = name or click.get_current_context().meta[options.WRITTEN]
    if missing := serving.missing():
        raise click.UsageError(missing)
    if not task_options["host"]:
        raise click.UsageError("--host is empty: 0.0.0.0 and :: are every address of this machine")
    if api_key is not None and not api_key.strip():
        raise click.UsageError("--api-key is empty; leave it out where no key is needed")
    paths = named_adapters(adapters, name)
    with Stop(is_process=True) as stop:
        settings = ServerSettings(
            task=_task(task_options),
            key=api_key or "",
            is_open=insecure,
            tokenizer=tokenizer or "auto",
            network=_network(network),
            adapters={adapter: options.newest_run(path) for adapter, path in paths.items()},
            checks=checks,
        )
        refuse_absent(weights, settings)
        listening = listen(settings)
        from gpt2dsl.serve.server import serve  # noqa: PLC0415  # imports MindSpore

        stop.restore()
        serve(weights, name, settings, listening, stop)


def _network(given: Mapping[str, object]) -> Model:
    part = Recipe().override(options.network(given)).parts.get("model")
    return part if isinstance(part, Model) else Model()


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
