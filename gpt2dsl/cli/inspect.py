"""``gpt2dsl inspect``: format and completeness of weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import click

from gpt2dsl.cli import options
from gpt2dsl.columns import left, width
from gpt2dsl.errors import counted
from gpt2dsl.parts.model import Model
from gpt2dsl.schema.fate import shown


@click.command(
    "inspect",
    help="Describe WEIGHTS: format, size, tensors, types, tokenizer, missing tensors, and the fate "
    "of each file and key beside them. Exit with code 2 if they can't be used.",
)
@options.weights()
@options.overrides
@options.base
@options.as_json
@click.pass_context
def command(
    context: click.Context, /, weights: str, as_json: bool, size: str | None, **given: Any
) -> None:
    from gpt2dsl.weights.infer_config import Overrides  # noqa: PLC0415  # imports NumPy
    from gpt2dsl.weights.inspection import inspect  # noqa: PLC0415  # as above

    network = Model(size=size or "", heads=given["heads"], activation=given["activation"] or "")
    overrides = attrs.evolve(Overrides.of(network, fetch=False), base=given["base"] or "")
    report = inspect(weights, overrides)
    if as_json:
        options.echo_json(report)
    else:
        files = report.pop("beside")
        report["size"] = report["size"] or "of no published model"
        if state := report.get("training_state"):
            report["training_state"] = counted(state, "tensor")
        for key, value in report.items():
            click.echo(f"{key.replace('_', ' '):<16}{_words(value)}")
        for line in _file_lines(files):
            click.echo(line)
    context.exit(2 if report["faults"] or report["missing"] else 0)


def _file_lines(files: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each file beside the weights, and one for each of its keys."""
    for name, file in files.items():
        yield f"\n{name}   {file['fate']}: {file['words']}"
        rows = [(key, shown(row["value"]), row) for key, row in file["keys"].items()]
        widths = [max((width(row[i]) for row in rows), default=0) for i in (0, 1)]
        for key, value, row in rows:
            head = f"  {left(key, widths[0])}  {left(value, widths[1])}"
            yield f"{head}  {row['fate']}: {row['words']}"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        remaining = f", and {len(value) - 8} more" if len(value) > 8 else ""
        return ", ".join(map(str, value[:8])) + remaining or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "none" if value in (None, "") else str(value)
