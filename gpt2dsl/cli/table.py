"""Tables in the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click

from gpt2dsl.columns import left, right, width


def echo(rows: Sequence[Sequence[str]], *, numbers: Collection[int] = ()) -> None:
    """Print rows of equal length in columns on stdout, with ``numbers`` aligned on the right."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            right(cell, columns) if i in numbers else left(cell, columns)
            for i, (cell, columns) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())
