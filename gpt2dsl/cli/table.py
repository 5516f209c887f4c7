"""Rows as a table for people."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click


def echo(rows: Sequence[Sequence[str]], *, numbers: Collection[int] = ()) -> None:
    """Print rows in columns on stdout.

    Args:
        rows: of one length; the first has the columns' names.
        numbers: the columns that are set to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())
