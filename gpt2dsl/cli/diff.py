"""``gpt2dsl diff``: what differs between two recipes, plans or runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from gpt2dsl import library
from gpt2dsl.chain import specs
from gpt2dsl.chain.chain import Chain
from gpt2dsl.cli import options, table
from gpt2dsl.errors import Fault, InputError, RunError, SpecError
from gpt2dsl.identity.identity import Difference, Identity
from gpt2dsl.library import compare, runs
from gpt2dsl.library.compare import ABSENT, Losses, Pair
from gpt2dsl.library.runs import Document, Run
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.recipe import Recipe

_WIDTH = 40
"""Characters of a value that are shown."""
_FORMS = {
    "loss": ".4f",
    "perplexity": ",.2f",
    "tokens_per_second": ",.0f",
    "parameters": ",d",
    "trained": ",d",
    "rows": ",d",
    "steps": ",d",
}
"""How numbers of plans and results are written."""


@attrs.frozen
class _Side:
    """A recipe or a chain, its plan if one is there, and the run of it if it is one's."""

    name: str
    recipe: Recipe | Chain
    plan: Document | None = None
    run: Run | None = None

    @property
    def digest(self) -> str:
        """Of a plan the one that it was made with, whatever later versions make of it."""
        return str(self.plan.get("digest", "")) if self.plan else self.recipe.digest

    @property
    def stages(self) -> list[Parts]:
        """The parts of its recipes."""
        recipes = self.recipe.recipes if isinstance(self.recipe, Chain) else (self.recipe,)
        return [recipe.completed for recipe in recipes]

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "digest": self.digest}


@attrs.frozen
class _More:
    """What is compared beside recipes: of plans, and of runs."""

    plan: list[Pair]
    result: list[Pair] | None = None
    losses: Losses | None = None


@attrs.frozen
class _Resume:
    """The entries that would differ if a run went on with another recipe.

    Attributes:
        differences: but those without effect.
    """

    differences: list[Difference]

    @property
    def is_refused(self) -> bool:
        """Whether the run could not go on."""
        return any(difference.rule.kind == "equal" for difference in self.differences)

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
        return {"refused": self.is_refused, "differences": rows}


@click.command(
    "diff",
    help="Show what differs between A and B: runs, plans (plan --out FILE.json), or whatever SPEC "
    "may be.",
)
@click.argument("a")
@click.argument("b")
@click.option("--html", "page", metavar="FILE", help="Draw the losses of two runs on a page.")
@options.as_json
def command(a: str, b: str, page: str | None, as_json: bool) -> None:
    """Show what differs between two recipes, plans or runs."""
    ours, theirs = _sides(a, b)
    if isinstance(ours.recipe, Chain) or isinstance(theirs.recipe, Chain):
        recipe = compare.chains(ours.stages, theirs.stages)
    else:
        recipe = compare.recipes(ours.recipe.completed, theirs.recipe.completed)
    both, resume = _more(ours, theirs), _resume(ours, theirs)
    if page:
        _draw(Path(page), ours, theirs, _rows(recipe, both))
    if as_json:
        document = _document(ours, theirs, recipe, both)
        options.echo_json(document | ({"resume": resume.to_json()} if resume else {}))
    else:
        _echo(ours, theirs, recipe, both)
        _echo_resume(resume)


def _sides(a: str, b: str) -> list[_Side]:
    """Both sides; the faults of one do not hide those of the other."""
    examined = [_examined(name) for name in (a, b)]
    faults = [fault for _, found in examined for fault in found]
    if faults:
        raise SpecError(dict.fromkeys(faults))
    return [side for side, _ in examined if side]


def _examined(name: str) -> tuple[_Side | None, tuple[Fault, ...]]:
    try:
        return _side(name), ()
    except SpecError as error:
        return None, error.faults


def _side(name: str) -> _Side:
    """What a name on the command line stands for."""
    name = options.newest_run(name)
    path = Path(name)
    if runs.is_run(path):
        found = Recipe.load(str(runs.recipe(path)))
        return _Side(name, found, runs.plan(path), runs.read(path))
    if path.suffix == ".json":
        plan = runs.document(path)
        return _Side(name, Recipe.from_toml(str(plan.get("toml", "")), name), plan)
    if path.is_dir() and name not in {entry.name for entry in library.entries()}:
        raise InputError("G2-301", name, "it is a folder, but not of a run: plan.json is absent")
    return _Side(name, specs.load(name))


def _more(a: _Side, b: _Side) -> _More | None:
    if a.plan is None or b.plan is None:
        return None
    plan = compare.plans(a.plan, b.plan)
    if a.run is None or b.run is None:
        return _More(plan)
    return _More(plan, compare.results(a.run, b.run), compare.losses(a.run, b.run))


def _resume(run: _Side, spec: _Side) -> _Resume | None:
    """Compare a training with a spec that would go on from it; None for anything else."""
    trains = run.run and run.run.task in ("pretrain", "finetune")
    if not trains or not run.plan or spec.plan or isinstance(spec.recipe, Chain):
        return None
    try:
        recorded = Identity.from_json(run.plan.get("identity"))
    except ValueError:  # a release before 0.2 recorded none
        return None
    now = spec.recipe.plan().identity
    differences = now.differences(recorded)
    return _Resume(
        [difference for difference in differences if difference.rule.kind != "no effect"]
    )


def _echo_resume(resume: _Resume | None) -> None:
    if resume is None:
        return
    verdict = "it would be refused" if resume.is_refused else "it can go on"
    click.echo(f"if the run went on with B, {verdict}")
    words = {"equal": "must be equal", "differ": "may differ"}
    rows = [
        (
            f"  {difference.name}",
            difference.change,
            f"{words[difference.rule.kind]}: {difference.rule.words}",
        )
        for difference in resume.differences
    ]
    if rows:
        table.echo(rows)


def _document(a: _Side, b: _Side, recipe: list[Pair], both: _More | None) -> dict[str, Any]:
    found: dict[str, Any] = {"a": a.to_json(), "b": b.to_json(), "recipe": _pairs(recipe)}
    if both:
        found["plan"] = _pairs(both.plan)
    if both and both.result is not None:
        found["result"] = _pairs(both.result)
        found["losses"] = both.losses.to_json() if both.losses else None
    return found


def _pairs(pairs: list[Pair]) -> list[dict[str, Any]]:
    return [pair.to_json() for pair in pairs]


def _echo(a: _Side, b: _Side, recipe: list[Pair], both: _More | None) -> None:
    click.echo(f"A  {a.name}   digest {a.digest[:8]}")
    click.echo(f"B  {b.name}   digest {b.digest[:8]}")
    table.echo(_rows(recipe, both))
    if both and both.losses:
        click.echo(f"training losses: {_together(both.losses)}")


def _rows(recipe: list[Pair], both: _More | None) -> list[tuple[str, str, str]]:
    """Return what differs, a section each of recipe, plan and result."""
    rows = _section("recipe", recipe, _value)
    if both:
        rows += _section("plan", both.plan, _figure)
    if both and both.result is not None:
        rows += _section("result", both.result, _figure)
    return rows


def _draw(page: Path, a: _Side, b: _Side, rows: Sequence[Sequence[str]]) -> None:
    """Write a page with the losses of both runs over each other.

    Raises:
        click.UsageError: one is no run that trained.
        RunError: the page can't be written.
    """
    metrics = {side.name: runs.metrics(side.run.path) if side.run else [] for side in (a, b)}
    for name, lines in metrics.items():
        if not any("loss" in line for line in lines):
            raise click.UsageError(f"--html draws the losses of runs; {name} has none")
    from gpt2dsl.engine.overlay import overlay  # noqa: PLC0415  # matplotlib: only where it draws

    try:
        page.write_text(overlay(metrics, [("", *metrics), *rows]), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{page}: it can't be written: {error.strerror} [G2-402]") from error


def _section(
    title: str, pairs: list[Pair], words: Callable[[str, Any], str]
) -> list[tuple[str, str, str]]:
    if not pairs:
        return [(f"{title}: equal", "", "")]
    rows = [
        (f"  {_label(pair.key)}", *_cut(words(pair.key, pair.a), words(pair.key, pair.b)))
        for pair in pairs
    ]
    return [(title, "A", "B"), *rows]


def _label(key: str) -> str:
    return key.replace("_per_second", "/s").replace("_evaluation", " evaluation")


def _value(_: str, value: Any) -> str:
    """A value of a recipe, as TOML would have it."""
    if value is ABSENT:
        return "absent"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _figure(key: str, value: Any) -> str:
    """A number or digest of a plan or result, as short as it can be read."""
    if value is ABSENT:
        return "absent"
    if key.endswith("_evaluation"):
        return f"{value['loss']:.4f} at step {value['step']:,}"
    if form := _FORMS.get(key):
        return format(value, form)
    return str(value)[:12] if key.endswith("(sha256)") else str(value)


def _cut(a: str, b: str) -> tuple[str, str]:
    """Both values, from where they differ if they are long."""
    if max(len(a), len(b)) <= _WIDTH:
        return a, b
    unlike = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    same = next(unlike, min(len(a), len(b)))
    start = max(0, same - _WIDTH // 4)
    return _window(a, start), _window(b, start)


def _window(text: str, start: int) -> str:
    head, tail = "…" if start else "", "…" if len(text) > start + _WIDTH else ""
    return f"{head}{text[start : start + _WIDTH]}{tail}"


def _together(losses: Losses) -> str:
    steps = f"{losses.common:,} common step{'s' if losses.common != 1 else ''}"
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
