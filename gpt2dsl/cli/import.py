"""``gpt2dsl import``: translation of MindFormers configurations and commands to recipes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from gpt2dsl.cli import options
from gpt2dsl.cli.show import python_of
from gpt2dsl.recipe import Recipe
from gpt2dsl.spec.mindformers import carrying, document
from gpt2dsl.spec.mindformers import command as lines
from gpt2dsl.spec.mindformers.key_reader import CARRIED, ImportedKey


@click.command(
    "import",
    help="Convert a MindFormers configuration to a recipe on stdout; the fate of each key is "
    "printed on stderr. Unknown keys are errors: nothing is dropped.",
)
@click.argument("file", metavar="FILE.yaml", required=False, type=click.Path(path_type=Path))
@click.option(
    "--command",
    "line",
    metavar="TEXT",
    help="A command line of run_mindformer.py or run_distribute.sh.",
)
@click.option("--as", "form", type=click.Choice(("toml", "python")), default="toml")
@click.option("--devices", type=click.IntRange(min=1), help="Devices of a data-parallel job.")
@options.as_json
def command(
    file: Path | None, line: str | None, form: str, devices: int | None, *, as_json: bool
) -> None:
    if bool(file) == bool(line):
        raise click.UsageError("expected FILE.yaml, or --command TEXT")
    config = lines.read(line) if line else lines.Command(document.read(file or Path()))
    carried = carrying.carry(config.entries, devices or config.devices)
    recipe = Recipe(*carried.parts())
    text = recipe.to_toml() if form == "toml" else python_of(recipe)
    if as_json:
        keys = [
            {"key": row.entry.key, "value": row.entry.value, "origin": row.entry.origin,
             "fate": row.fate, "words": row.words}
            for row in carried.lines
        ]  # fmt: skip
        options.echo_json({"recipe": text, "keys": keys})
        return
    click.echo(text.rstrip())
    for words in _told(carried.lines):
        click.echo(words, err=True)


def _told(lines: Iterable[ImportedKey]) -> Iterable[str]:
    """Yield how many keys were carried over, and why each of the others was not."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    carried = 0
    for line in lines:
        if line.fate == CARRIED:
            carried += 1
            if ";" in line.words:
                yield f"{line.entry.origin}  {line.entry.key}  {line.words}"
            continue
        by_reason.setdefault((line.fate, line.words), []).append(line.entry.key)
    yield f"{carried} keys carried over"
    for fate in sorted({fate for fate, _ in by_reason}):
        for (kind, why), names in by_reason.items():
            if kind == fate:
                yield f"{fate}: {', '.join(names)}: {why}"
