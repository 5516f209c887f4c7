"""``gpt2dsl import``: MindFormers' configurations and command lines as recipes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from gpt2dsl.cli import options
from gpt2dsl.cli.show import python_of
from gpt2dsl.recipe import Recipe
from gpt2dsl.spec.mindformers import carrying, document
from gpt2dsl.spec.mindformers import command as lines
from gpt2dsl.spec.mindformers.carrying import CARRIED, Line


@click.command(
    "import",
    help="Print the recipe of a MindFormers configuration; what becomes of each of its keys goes "
    "to stderr. Unknown keys are errors: nothing is dropped.",
)
@click.argument("file", metavar="FILE.yaml", required=False, type=click.Path(path_type=Path))
@click.option("--command", "line", metavar="TEXT", help="run_mindformer.py or run_distribute.sh.")
@click.option("--as", "form", type=click.Choice(("toml", "python")), default="toml")
@click.option("--devices", type=click.IntRange(min=1), help="Of a data-parallel job.")
@options.as_json
def command(
    file: Path | None, line: str | None, form: str, devices: int | None, *, as_json: bool
) -> None:
    """Import a configuration."""
    if bool(file) == bool(line):
        raise click.UsageError("expected FILE.yaml, or --command TEXT")
    said = lines.read(line) if line else lines.Command(document.read(file or Path()))
    found = carrying.carry(said.entries, devices or said.devices)
    recipe = Recipe(*found.parts())
    text = recipe.to_toml() if form == "toml" else python_of(recipe)
    if as_json:
        keys = [
            {"key": one.entry.key, "value": one.entry.value, "origin": one.entry.origin,
             "fate": one.fate, "words": one.words}
            for one in found.lines
        ]  # fmt: skip
        options.echo_json({"recipe": text, "keys": keys})
        return
    click.echo(text.rstrip())
    for words in _told(found.lines):
        click.echo(words, err=True)


def _told(lines: Iterable[Line]) -> Iterable[str]:
    """Return how many keys were carried over, and why each of the others was not."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    carried = 0
    for one in lines:
        if one.fate == CARRIED:
            carried += 1
            if ";" in one.words:
                yield f"{one.entry.origin}  {one.entry.key}  {one.words}"
            continue
        by_reason.setdefault((one.fate, one.words), []).append(one.entry.key)
    yield f"{carried} keys carried over"
    for fate in sorted({fate for fate, _ in by_reason}):
        for (kind, why), names in by_reason.items():
            if kind == fate:
                yield f"{fate}: {', '.join(names)}: {why}"
