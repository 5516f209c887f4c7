"""Common code of the commands that convert weights."""

from __future__ import annotations

from collections.abc import Mapping

import click

from gpt2dsl.cli import options
from gpt2dsl.recipe import Recipe

OF_NETWORK = {name: f"model.{name}" for name in ("size", "heads", "activation")}
"""Option of ``options.hints`` → its key."""


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
    """Run the task of a command and print the result.

    Args:
        kind: kind of the task, which is also the name of the command.
        source: the source weights.
        target: the target path.
        options_given: option → value, None if not given.
        keys: option → its key.
        called: name of the source argument in the command's help.
        as_json: print the result as one JSON document.

    Raises:
        SpecError: every fault.
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
