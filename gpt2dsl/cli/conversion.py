"""What the commands share that take weights from one place to another."""

from __future__ import annotations

from collections.abc import Mapping

import click

from gpt2dsl.cli import options
from gpt2dsl.recipe import Recipe

OF_NETWORK = {name: f"model.{name}" for name in ("size", "heads", "activation")}
"""The options of ``options.hints`` → their keys."""


def run(
    kind: str,
    source: str,
    target: str,
    options_given: Mapping[str, object],
    keys: Mapping[str, str],
    *,
    called: str = "SRC",
    as_json: bool,
) -> None:
    """Carry a task out that the command line says, and print the result.

    Args:
        kind: of the task, which the command is named after.
        source: of the task.
        target: of the task.
        options_given: option → value, None where it was not given.
        keys: option → its key.
        called: what the command's help calls the source.
        as_json: whether the result is to be one JSON document.

    Raises:
        SpecError: with every fault.
    """
    values: dict[str, tuple[object, str]] = {
        "task.kind": (kind, kind),
        "task.source": (source, called),
        "task.target": (target, "DST"),
    }
    for name, key in keys.items():
        if (value := options_given[name]) is not None:
            option = name.replace("_", "-")
            values[key] = (value, f"--no-{option}" if value is False else f"--{option}")
    result = Recipe().override(values).plan(prepare=True).run(keep=False)
    if as_json:
        options.echo_json(result.to_json())
    else:
        click.echo(str(result))
