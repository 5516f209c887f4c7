"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpt2dsl import terminal
from gpt2dsl.data import documents
from gpt2dsl.files import cache
from gpt2dsl.layout.config import ACTIVATIONS
from gpt2dsl.library import runs
from gpt2dsl.parts import Data, Part
from gpt2dsl.parts.model import ALIASES, SIZES

if TYPE_CHECKING:
    from gpt2dsl.chain.result import ChainResult
    from gpt2dsl.engine.job import Result

spec = click.argument("spec")
settings = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value: optim.lr=3e-4."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def _quieten(context: click.Context, _: click.Parameter, wanted: bool) -> bool:
    context.with_resource(terminal.quietly(wanted=wanted))
    return wanted


quiet = click.option(
    "-q", "--quiet", is_flag=True, callback=_quieten, expose_value=False, is_eager=True,
    help="Hide the plan and progress.",
)  # fmt: skip
tokenizer = click.option(
    "--tokenizer",
    metavar="FOLDER",
    help="gpt2 or a folder, in place of the weights' own tokenizer.",
)


WRITTEN = f"{__name__}.weights"
"""Key of a command's ``meta`` for the weights argument as typed."""


def _named(context: click.Context, _: click.Parameter, name: str) -> str:
    """Return the name of weights; for a run's name without its digest, the newest such run.

    Only the command line allows this, since a recipe must always mean the same weights.
    """
    context.meta[WRITTEN] = name
    return newest_run(name)


def newest_run(name: str) -> str:
    """Resolve a run's name without its digest to the newest such run, with a message."""
    path = cache.expanded(name)
    is_bare = path.parent == Path()  # gpt2 is a model even if runs of that name exist here
    if is_bare or os.path.lexists(path) or (newest := runs.newest(path)) is None:
        return name
    terminal.say(f"{name}: the newest such run, {click.format_filename(newest)}")
    return os.fspath(newest)


def weights(name: str = "weights", metavar: str | None = None) -> Callable[..., Any]:
    return click.argument(name, metavar=metavar, callback=_named)


def _newest(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    return name and newest_run(name)


base = click.option(
    "--base", metavar="WEIGHTS", callback=_newest, help="Base weights of an adapter."
)


OF_NETWORK = {name: f"model.{name}" for name in ("size", "heads", "activation")}
"""Option of ``overrides`` → its key."""


def network(given: Mapping[str, object]) -> dict[str, tuple[object, str]]:
    """Return the recipe values for those options of ``overrides`` that are given."""
    return {
        key: (given[name], f"--{name}")
        for name, key in OF_NETWORK.items()
        if given[name] is not None
    }


def named_tokenizer(name: str | None) -> dict[str, tuple[str, str]]:
    """Return the override for ``--tokenizer``, {} if it is not given."""
    return {"data.tokenizer": (name, "--tokenizer")} if name else {}


def texts_or_file(
    name: str, texts: tuple[str, ...], file: str | None
) -> tuple[tuple[str, ...] | str, str]:
    """Return the texts or their file, and the option that has them.

    Raises:
        UsageError: both of ``--NAME TEXT`` and ``--NAMEs FILE`` were given, or neither.
    """
    if bool(texts) == bool(file):
        number = "both" if file else "neither"
        raise click.UsageError(f"expected --{name} TEXT, or --{name}s FILE; found {number}")
    return (file, f"--{name}s") if file else (texts, f"--{name}")


def overrides(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe the network of a .ckpt without a YAML file."""
    for option in (
        click.option("--activation", type=click.Choice(ACTIVATIONS), help="Network of a .ckpt."),
        click.option("--heads", type=click.IntRange(min=1), help="Network of a .ckpt."),
        click.option("--size", type=click.Choice((*SIZES, *ALIASES)), help="Network of a .ckpt."),
    ):
        command = option(command)
    return command


def of_field(part: type[Part], name: str, **attributes: Any) -> Callable[..., Any]:
    """Return the option for a field of a part, with the field's default and description."""
    (default,) = (field.default for field in part.fields() if field.name == name)
    doc, option = part.rules()[name].doc, name.replace("_", "-")
    flag = f"--{option}/--no-{option}" if isinstance(default, bool) else f"--{option}"
    attributes = {
        "type": str if default == () else type(default),
        "default": default,
        "multiple": default == (),
        "show_default": default not in ((), ""),
        "help": f"{doc[0].upper()}{doc[1:]}.",
        **attributes,
    }
    return click.option(attributes.pop("flag", flag), name, **attributes)


def form(*formats: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the options of file format, as in ``[data]``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = of_field(Data, "max_bad_rows", type=click.IntRange(min=0))(command)
        for name in ("quotes", "header", "text_column"):
            command = of_field(Data, name)(command)
        return click.option("--format", "form", type=click.Choice(formats), help="Default: text.")(
            command
        )

    return add


def echo_json(document: Any) -> None:
    click.echo(documents.dumps(document, indent=2))


def echo_result(result: Result | ChainResult, *, as_json: bool) -> None:
    """Print a result on stdout, as text or as one JSON document."""
    if as_json:
        echo_json(result.to_json())
    else:
        click.echo(str(result))
