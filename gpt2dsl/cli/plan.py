"""``gpt2dsl plan``: the plan of a recipe, without running it."""

from __future__ import annotations

from pathlib import Path

import click

from gpt2dsl.chain import specs
from gpt2dsl.chain.chain import Chain
from gpt2dsl.chain.plan import ChainPlan
from gpt2dsl.cli import options, table
from gpt2dsl.errors import counted, some
from gpt2dsl.library import runs
from gpt2dsl.library.runs import Run
from gpt2dsl.plan.plan import Plan


@click.command("plan", help="Show what SPEC would do; needs neither MindSpore nor the inputs.")
@options.spec
@options.settings
@options.as_json
@click.option("--why", is_flag=True, help="Show the origin of each value.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the plan to a file as JSON.")
@click.option(
    "--strategies",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the MindSpore strategy file of each rank to a folder.",
)
def command(
    spec: str,
    settings: tuple[str, ...],
    *,
    as_json: bool,
    why: bool,
    out: Path | None,
    strategies: Path | None,
) -> None:
    recipe = specs.load(spec, settings)
    if strategies is not None and isinstance(recipe, Chain):
        raise click.UsageError("--strategies writes those of one recipe, this is a chain")
    plan = specs.planned(recipe)
    if out:
        try:
            out.write_text(plan.to_json_text(), encoding="utf-8")
        except OSError as error:
            raise click.BadParameter(f"{out} can't be written: {error.strerror}") from None
    if strategies is not None and isinstance(plan, Plan):
        count = plan.write_strategies(strategies)
        click.echo(f"{strategies}: strategy files of {counted(count, 'rank')}", err=True)
    if as_json:
        click.echo(plan.to_json_text())
        return
    click.echo(str(plan))
    if isinstance(plan, Plan) and (words := _there(plan)):
        click.echo(words)
    if why:
        rows = [(key, repr(value), origin) for key, value, origin in plan.why()]
        table.echo([(f"  {key}", value, origin) for key, value, origin in rows])
        _echo_identity(plan)


def _there(plan: Plan) -> str:
    """Return the state of an existing run and what run would do, "" if there is none."""
    path = Path(plan.directory)
    if not plan.has_run or not runs.is_run(path):
        return ""
    existing = runs.look(path)
    words = f"{click.format_filename(path)} is there, {existing}"
    if existing.state in ("running", "damaged"):
        return words
    return f"{words}: run would {_doing(plan, existing)}"


def _doing(plan: Plan, existing: Run) -> str:
    """Return what ``gpt2dsl run`` would do with an existing run of the plan."""
    if not plan.optimizer:
        return "do it again"
    if plan.starts_anew:
        return "start anew"
    recorded = runs.identity(runs.plan(existing.path))
    changed = plan.identity.at_resume(recorded) if recorded else []
    if refused := some(difference.name for difference in changed if difference.is_refused):
        return f"be refused: {refused} changed; train.resume = never starts anew"
    if existing.state == "done":
        names = some(difference.name for difference in changed)
        return f"go on at its end: {names} changed" if names else "show its result"
    if named := next((read.name for read in plan.inputs if read.key == "train.resume"), ""):
        return f"go on from its newest checkpoint or from {named}, whichever is further"
    from gpt2dsl.weights import store  # noqa: PLC0415  # imports NumPy

    saved = store.steps(existing.path / "checkpoints")
    return f"resume at step {saved[-1][0]:,}" if saved else "start at step 0"


def _echo_identity(plan: Plan | ChainPlan) -> None:
    """Print the identity of the result, entry by entry."""
    stages = (
        [("", plan)]
        if isinstance(plan, Plan)
        else [(f"stage {stage.number} ", stage.plan) for stage in plan.stages]
    )
    for name, planned in stages:
        click.echo(f"{name}identity: what decides the result")
        table.echo([(f"  {key}", words, "") for key, words in planned.identity.rows()])
