"""``gpt2dsl runs``: list of the runs in a folder."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from gpt2dsl.cli import options, table
from gpt2dsl.errors import SpecError, some
from gpt2dsl.library import compare, runs
from gpt2dsl.library.compare import ABSENT
from gpt2dsl.library.runs import Run
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.recipe import Recipe

_COLUMNS = (
    "name", "task", "state", "steps", "loss", "loss of", "perplexity", "tokens/s", "when", "with",
)  # fmt: skip
_NUMBERS = ("steps", "loss", "perplexity", "tokens/s")


@click.command("runs", help="List the runs in FOLDER (default: runs), the newest last.")
@click.argument("folder", default="runs", type=click.Path(path_type=Path))
@options.as_json
def command(folder: Path, as_json: bool) -> None:
    listed = runs.below(folder)
    unlike = _unlike(listed)
    if as_json:
        options.echo_json([_document(run, folder, unlike.get(run.path, {})) for run in listed])
    elif not listed:
        click.echo(f"no runs in {click.format_filename(folder)}")
    else:
        _table([_row(run, folder, unlike.get(run.path, {})) for run in listed])


def _unlike(listed: Sequence[Run]) -> dict[Path, dict[str, Any]]:
    """Return run → the values of its recipe that differ among runs of the same name."""
    named = defaultdict(list)
    for run in listed:
        named[runs.stem(run.path)].append(run.path)
    unlike: dict[Path, dict[str, Any]] = {}
    for paths in named.values():
        recipes = _recipes(paths) if len(paths) > 1 else {}
        for row in compare.recipes(*recipes.values()) if recipes else []:
            for path, value in zip(recipes, row.values, strict=True):
                if value is not ABSENT:
                    unlike.setdefault(path, {})[row.key] = value
    return unlike


def _recipes(paths: Sequence[Path]) -> dict[Path, Parts]:
    """Return the recipes of runs, skipping corrupt ones."""
    recipes = {}
    for path in paths:
        with contextlib.suppress(SpecError):
            recipes[path] = Recipe.load(runs.recipe(path)).completed
    return recipes


def _table(rows: list[dict[str, str]]) -> None:
    columns = [column for column in _COLUMNS if any(row[column] for row in rows)]
    table.echo(
        [columns, *([row[column] for column in columns] for row in rows)],
        numbers=[i for i, column in enumerate(columns) if column in _NUMBERS],
    )


def _row(run: Run, folder: Path, unlike: Mapping[str, Any]) -> dict[str, str]:
    when = _when(run)
    return {
        "name": _name(run, folder),
        "task": run.task,
        "state": str(run),
        "steps": _number(run.steps, ",d"),
        "loss": _number(run.loss, ".4f"),
        "loss of": run.loss_of,
        "perplexity": _number(run.perplexity, ",.2f"),
        "tokens/s": _number(run.tokens_per_second, ",.0f"),
        "when": when.strftime("%Y-%m-%d %H:%M") if when else "",
        "with": some(
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in unlike.items()
        ),
    }


def _document(run: Run, folder: Path, unlike: Mapping[str, Any]) -> dict[str, Any]:
    when = _when(run)
    return {
        "name": _name(run, folder),
        "path": click.format_filename(run.path),
        "task": run.task,
        "state": run.state,
        "steps": run.steps,
        "planned_steps": run.planned,
        "loss": run.loss,
        "loss_of": run.loss_of,
        "perplexity": run.perplexity,
        "tokens_per_second": run.tokens_per_second,
        "when": when.isoformat(timespec="seconds") if when else None,
        "with": unlike,
        "problem": run.problem,
    }


def _name(run: Run, folder: Path) -> str:
    inside = run.path.relative_to(folder)
    return click.format_filename(inside if inside.parts else run.path)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _when(run: Run) -> datetime | None:
    if run.modified is None:
        return None
    return datetime.fromtimestamp(run.modified, tz=timezone.utc).astimezone()
