"""``gpt2dsl diff``: differences between recipes, plans or runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from gpt2dsl import library
from gpt2dsl.chain import specs
from gpt2dsl.chain.chain import Chain
from gpt2dsl.cli import options, table, words
from gpt2dsl.errors import Fault, FileError, InputError, SpecError, counted
from gpt2dsl.identity.identity import Difference
from gpt2dsl.library import compare, runs
from gpt2dsl.library.compare import ABSENT, SIDES, ComparedKey, LossCurves
from gpt2dsl.library.runs import Document, Run
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.plan import Plan
from gpt2dsl.plan.resuming import KEY as RESUME
from gpt2dsl.recipe import Recipe

_WIDTH = 40
"""Maximum characters of a value in a comparison of two; less for several."""
_LINE = 80
"""Characters of all values of a line."""
_LEAST = 22
"""Minimum characters of a value, enough for an evaluation."""
_FORMS = {
    "loss": ".4f",
    "perplexity": ",.2f",
    "tokens_per_second": ",.0f",
    "parameters": ",d",
    "trained": ",d",
    "rows": ",d",
    "steps": ",d",
}
"""Key → format of numbers in plans and results."""


@attrs.frozen
class _Side:
    """A recipe or a chain, with its plan and its run where these exist."""

    name: str
    recipe: Recipe | Chain
    plan: Document | None = None
    run: Run | None = None

    @property
    def digest(self) -> str:
        """Digest recorded in the plan, if there is one, else that of the recipe."""
        return str(self.plan.get("digest", "")) if self.plan else self.recipe.digest

    @property
    def stages(self) -> list[Parts]:
        """Parts of each of its recipes."""
        recipes = self.recipe.recipes if isinstance(self.recipe, Chain) else (self.recipe,)
        return [recipe.completed for recipe in recipes]

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "digest": self.digest}


@attrs.frozen
class _More:
    """The comparison of plans and runs, in addition to that of recipes.

    Attributes:
        result: rows of the results; None unless all sides are runs.
        losses: losses of each other run against those of the first; None without training losses.
    """

    plan: list[ComparedKey]
    result: list[ComparedKey] | None = None
    losses: Sequence[LossCurves | None] = ()


@attrs.frozen
class _Resume:
    """The differences that resuming a run with another recipe would make, if they have an effect.

    Attributes:
        command: the command that resumes it; "" without a checkpoint.
        reason: why its newest checkpoint would be refused; "" if it would not.
    """

    differences: list[Difference]
    command: str = ""
    reason: str = ""

    @property
    def is_refused(self) -> bool:
        return bool(self.reason) or any(difference.is_refused for difference in self.differences)

    @property
    def verdict(self) -> str:
        """What would come of it, and the command."""
        if any(difference.is_refused for difference in self.differences):
            return "it would be refused"
        if self.reason:
            return f"it would be refused: {self.reason}"
        if not self.command:
            return "it can go on, but it has no whole checkpoint"
        return f"it can go on: {words.as_called(self.command)}"

    def to_json(self) -> dict[str, Any]:
        rows = [
            {
                "what": difference.name,
                "change": difference.change,
                "kind": difference.rule.kind,
                "why": difference.rule.words,
            }
            for difference in self.differences
        ]
        command = "" if self.is_refused else self.command
        return {"refused": self.is_refused, "command": command, "differences": rows}


@click.command(
    "diff",
    help="Compare A with B and others: runs, plans (plan --out FILE.json), or recipes as for SPEC.",
)
@click.argument("a")
@click.argument("b")
@click.argument("more", metavar="[C]...", nargs=-1)
@click.option("--html", "page", metavar="FILE", help="Plot the losses of the runs on a page.")
@options.as_json
def command(a: str, b: str, more: tuple[str, ...], page: str | None, as_json: bool) -> None:
    names = (a, b, *more)
    if len(names) > len(SIDES):
        raise click.UsageError(f"{len(names)} are too many to compare: at most {len(SIDES)}")
    sides = _sides(names)
    if any(isinstance(side.recipe, Chain) for side in sides):
        recipe = compare.chains(*(side.stages for side in sides))
    else:
        recipe = compare.recipes(*(side.stages[0] for side in sides))
    details, resume = _more(sides), None if more else _resume(*sides)
    if page:
        _draw(Path(page), sides, _rows(sides, recipe, details))
    if as_json:
        document = _document(sides, recipe, details)
        options.echo_json(document | ({"resume": resume.to_json()} if resume else {}))
    else:
        _echo(sides, recipe, details)
        _echo_resume(resume)


def _sides(names: Sequence[str]) -> list[_Side]:
    """Return all sides, or raise the faults of all."""
    examined = [_examined(name) for name in names]
    faults = [fault for _, wrong in examined for fault in wrong]
    if faults:
        raise SpecError(dict.fromkeys(faults))
    return [side for side, _ in examined if side]


def _examined(name: str) -> tuple[_Side | None, tuple[Fault, ...]]:
    try:
        return _side(name), ()
    except SpecError as error:
        return None, error.faults


def _side(name: str) -> _Side:
    """Return the run, plan or recipe that a name on the command line refers to."""
    name = options.newest_run(name)
    path = Path(name)
    if runs.is_run(path):
        loaded = Recipe.load(str(runs.recipe(path)))
        return _Side(name, loaded, runs.plan(path), runs.read(path))
    if path.suffix == ".json":
        plan = runs.document(path)
        return _Side(name, Recipe.from_toml(str(plan.get("toml", "")), name), plan)
    if path.is_dir() and name not in {entry.name for entry in library.entries()}:
        raise InputError("G2-301", name, "it is a folder, but not of a run: plan.json is absent")
    return _Side(name, specs.load(name))


def _more(sides: Sequence[_Side]) -> _More | None:
    plans = [side.plan for side in sides if side.plan is not None]
    if len(plans) < len(sides):
        return None
    plan = compare.plans(*plans)
    finished = [side.run for side in sides if side.run is not None]
    if len(finished) < len(sides):
        return _More(plan)
    first, *others = finished
    losses = [compare.losses(first, other) for other in others]
    return _More(plan, compare.results(*finished), losses)


def _resume(run: _Side, spec: _Side) -> _Resume | None:
    """Compare a training run with a spec that would resume it; None for anything else."""
    trains = run.run and run.run.task in ("pretrain", "finetune")
    if not trains or not run.plan or spec.plan or isinstance(spec.recipe, Chain):
        return None
    recorded = runs.identity(run.plan)
    if run.run is None or recorded is None:
        return None
    plan = spec.recipe.plan()
    return _Resume(plan.identity.at_resume(recorded), *_going_on(run.run, spec, plan))


def _going_on(run: Run, spec: _Side, plan: Plan) -> tuple[str, str]:
    """Return the command that goes on with a spec from a run, and why that would be refused."""
    from gpt2dsl.weights import store  # noqa: PLC0415  # imports NumPy

    folder = store.newest(run.path / "checkpoints", contents=False).folder
    if folder is None:
        return "", ""
    command = ["gpt2dsl", "run", spec.name]
    if Path(plan.directory).resolve() == run.path.resolve():
        anew = ["--set", f"{RESUME}=auto"] if plan.starts_anew else []
        return shlex.join(command + anew), ""
    begun = spec.recipe.set(RESUME, str(folder))
    refused = [fault for fault in begun.faults() if fault.key.startswith(RESUME)]
    return (
        shlex.join([*command, "--set", f"{RESUME}={folder}"]),
        refused[0].message if refused else "",
    )


def _echo_resume(resume: _Resume | None) -> None:
    if resume is None:
        return
    click.echo(f"if the run went on with B, {resume.verdict}")
    verbs = {"equal": "must be equal", "differ": "may differ"}
    rows = [
        (
            f"  {difference.name}",
            difference.change,
            f"{verbs[difference.rule.kind]}: {difference.rule.words}",
        )
        for difference in resume.differences
    ]
    if rows:
        table.echo(rows)


def _document(
    sides: Sequence[_Side], recipe: list[ComparedKey], more: _More | None
) -> dict[str, Any]:
    document: dict[str, Any] = {
        letter: side.to_json() for letter, side in zip(SIDES, sides, strict=False)
    }
    document["recipe"] = [row.to_json() for row in recipe]
    if more:
        document["plan"] = [row.to_json() for row in more.plan]
    if more and more.result is not None:
        document["result"] = [row.to_json() for row in more.result]
        losses = [curves.to_json() if curves else None for curves in more.losses]
        several = dict(zip(SIDES[1:], losses, strict=False))  # each compared with side a
        document["losses"] = several if len(losses) > 1 else losses[0]
    return document


def _echo(sides: Sequence[_Side], recipe: list[ComparedKey], more: _More | None) -> None:
    for letter, side in zip(SIDES.upper(), sides, strict=False):
        click.echo(f"{letter}  {side.name}   digest {side.digest[:8]}")
    table.echo(_rows(sides, recipe, more))
    for letter, losses in zip(SIDES[1:].upper(), more.losses if more else (), strict=False):
        which = f" of A and {letter}" if len(sides) > 2 else ""
        if losses:
            click.echo(f"training losses{which}: {_together(losses)}")


def _rows(
    sides: Sequence[_Side], recipe: list[ComparedKey], more: _More | None
) -> list[tuple[str, ...]]:
    """Return the differences, with a section each for recipe, plan and result."""
    count = len(sides)
    rows = _section("recipe", recipe, _value, count)
    if more:
        rows += _section("plan", more.plan, _figure, count)
    if more and more.result is not None:
        rows += _section("result", more.result, _figure, count)
    return rows


def _draw(page: Path, sides: Sequence[_Side], rows: Sequence[Sequence[str]]) -> None:
    """Write a page that overlays the losses of runs.

    Raises:
        click.UsageError: a side is not a training run.
        RunError: the page can't be written.
    """
    drawn = [(side.name, runs.metrics(side.run.path) if side.run else []) for side in sides]
    for name, lines in drawn:
        if not any("loss" in line for line in lines):
            raise click.UsageError(f"--html draws the losses of runs; {name} has none")
    from gpt2dsl.engine.overlay import overlay  # noqa: PLC0415  # imports matplotlib

    try:
        page.write_text(overlay(drawn, rows), encoding="utf-8")
    except OSError as error:
        raise FileError.unwritable(page, error) from error


def _section(
    title: str, rows: list[ComparedKey], words: Callable[[str, Any], str], count: int
) -> list[tuple[str, ...]]:
    if not rows:
        return [(f"{title}: equal", *[""] * count)]
    worded = [(row.key, [words(row.key, value) for value in row.values]) for row in rows]
    return [
        (title, *SIDES.upper()[:count]),
        *((f"  {_label(key)}", *_cut(values)) for key, values in worded),
    ]


def _label(key: str) -> str:
    label = key.replace("_per_second", "/s").replace("_evaluation", " evaluation")
    return label.replace("loss_of", "loss of")


def _value(_: str, value: Any) -> str:
    """Return a value of a recipe in the notation of TOML."""
    if value is ABSENT:
        return "absent"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _figure(key: str, value: Any) -> str:
    """Return a number or digest of a plan or result in short form."""
    if value is ABSENT:
        return "absent"
    if key.endswith("_evaluation"):
        return f"{value['loss']:.4f} at step {value['step']:,}"
    if form := _FORMS.get(key):
        return format(value, form)
    return str(value)[:12] if key.endswith("(sha256)") else str(value)


def _cut(values: Sequence[str]) -> tuple[str, ...]:
    """Return all values, cut around the first difference if they are long."""
    width = max(_LEAST, min(_WIDTH, _LINE // len(values)))
    if max(map(len, values)) <= width:
        return tuple(values)
    differing = (i for i, letters in enumerate(zip(*values, strict=False)) if len({*letters}) > 1)
    common = next(differing, min(map(len, values)))
    start = max(0, common - width // 4)
    return tuple(_window(value, start, width) for value in values)


def _window(text: str, start: int, width: int) -> str:
    head, tail = "…" if start else "", "…" if len(text) > start + width else ""
    return f"{head}{text[start : start + width]}{tail}"


def _together(losses: LossCurves) -> str:
    steps = counted(losses.common, "common step")
    if not losses.common:
        return "no common steps"
    if losses.unequal is None:
        return f"equal bit for bit over {steps}"
    tolerance = f"{compare.TOLERANCE:g}".replace("e-0", "e-")
    if losses.apart is None:
        return (
            f"within {tolerance} relative over {steps}, but first unequal at step "
            f"{losses.unequal.step:,}"
        )
    apart = losses.apart
    return (
        f"first differ by more than {tolerance} relative at step {apart.step:,} "
        f"({apart.a!r} and {apart.b!r}), of {steps}"
    )
