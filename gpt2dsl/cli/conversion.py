"""Common code of the commands that convert weights."""

from __future__ import annotations

from collections.abc import Mapping

from gpt2dsl.cli import options
from gpt2dsl.recipe import Recipe


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
    """Run the task of a command, of the same name, and print the result.

    ``keys`` maps options to keys; options that were not given are None.
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
    options.echo_result(result, as_json=as_json)
