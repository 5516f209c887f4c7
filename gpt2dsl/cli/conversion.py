"""What the commands share that take weights from one place to another."""

from __future__ import annotations

from collections.abc import Mapping

import click

from gpt2dsl.cli import options
from gpt2dsl.recipe import Recipe

OF_NETWORK = {name: f"model.{name}" for name in ("size", "heads", "activation")}
"""The options of ``options.hints`` → their keys."""


def run(
    words: Mapping[str, str], given: Mapping[str, object], keys: Mapping[str, str], *, as_json: bool
) -> None:
    """Carry a task out that the command line says, and print the result.

    Args:
        words: kind, source and target: each value, and what the command calls source and target.
        given: option → value, None where it was not given.
        keys: option → its key.
        as_json: whether the result is to be one JSON document.

    Raises:
        SpecError: with every fault.
    """
    values: dict[str, tuple[object, str]] = {
        "task.kind": (words["kind"], words["kind"]),
        "task.source": (words["source"], words.get("called", "SRC")),
        "task.target": (words["target"], "DST"),
    }
    for name, key in keys.items():
        if given[name] is not None:
            option = name.replace("_", "-")
            values[key] = (given[name], f"--no-{option}" if given[name] is False else f"--{option}")
    result = Recipe().override(values).plan(prepare=True).run(keep=False)
    if as_json:
        options.echo_json(result.to_json())
    else:
        click.echo(str(result))
