"""``gpt2dsl run``: plan and run a recipe or a chain, and print the result."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import click

from gpt2dsl import terminal
from gpt2dsl.chain import specs
from gpt2dsl.chain.chain import Chain
from gpt2dsl.chain.plan import ChainPlan
from gpt2dsl.cli import options
from gpt2dsl.cluster import hosts, supervisor
from gpt2dsl.errors import Interrupted, SpecError
from gpt2dsl.library.finding import checked_name
from gpt2dsl.plan import resuming
from gpt2dsl.plan.plan import Plan
from gpt2dsl.recipe import callbacks_of

RESUME = resuming.KEY


def _checked_name(
    _context: click.Context, _option: click.Parameter, name: str | None
) -> str | None:
    """Return the name of a run; refuse one that is not valid as a directory name."""
    try:
        return None if name is None else checked_name(name)
    except SpecError as error:
        raise SpecError(
            attrs.evolve(fault, origin="", key="--name") for fault in error.faults
        ) from None


@click.command("run", help="Plan and run SPEC, and print the result.")
@options.spec
@options.settings
@click.option(
    "--name",
    callback=_checked_name,
    help="Name of the run and its directory, in place of that of the spec.",
)
@click.option("--profile", is_flag=True, help="Profile a few training steps.")
@click.option(
    "--node",
    metavar="FIRST:COUNT@HOST:PORT",
    help="Run only these ranks, until stdin ends; used by launch.",
)
@options.quiet
@options.as_json
def command(
    spec: str,
    settings: tuple[str, ...],
    *,
    name: str | None,
    profile: bool,
    node: str | None,
    as_json: bool,
) -> None:
    recipe = specs.load(spec, settings)
    if name is not None:
        recipe = recipe.named(name)
    if isinstance(recipe, Chain) and (node or profile):
        raise click.UsageError("--node and --profile are for one recipe, this is a chain")
    plan = specs.planned(recipe, prepare=True)
    if isinstance(plan, ChainPlan):
        _chain(plan, spec, settings, name=name, as_json=as_json)
    else:
        _recipe(plan, spec, settings, name=name, profile=profile, node=node, as_json=as_json)


def _chain(
    plan: ChainPlan, spec: str, settings: tuple[str, ...], *, name: str | None, as_json: bool
) -> None:
    _show(plan)
    keys = [f"stage.{stage.number}.{RESUME}" for stage in plan.stages if stage.plan.starts_anew]
    again = _again(spec, settings, name, keys, several=False)
    callbacks = callbacks_of(spec)
    if len(callbacks) == 1:  # a chain in Python has one list of callbacks for all stages
        callbacks *= len(plan.stages)
    trains = any(stage.plan.optimizer for stage in plan.stages)
    folders = [stage.directory for stage in plan.stages]
    with _interruptible(again if trains else "", folders):
        result = plan.run(resume_command=again, stage_callbacks=callbacks)
    options.echo_result(result, as_json=as_json)


def _recipe(
    plan: Plan,
    spec: str,
    settings: tuple[str, ...],
    *,
    name: str | None,
    profile: bool,
    node: str | None,
    as_json: bool,
) -> None:
    here = hosts.node(node, plan.world) if node else None
    if here is None or here.first == 0:
        _show(plan)
    callbacks = list(callbacks_of(spec)[0])
    if profile and not plan.optimizer:
        raise click.UsageError(f"--profile looks at training steps; {plan.task} has none")
    if profile:
        from gpt2dsl.engine.profile import Profile  # noqa: PLC0415  # rarely needed

        callbacks.append(Profile(Path(plan.directory) / "profile"))
    streams = plan.streams and not as_json
    anew = [RESUME] if plan.starts_anew else []
    again = _again(spec, settings, name, anew, several=node is not None)
    try:
        told = again if plan.optimizer and here is None else ""
        with _interruptible(told, [Path(plan.directory)]):
            result = plan.run(
                resume_command=again,
                callbacks=callbacks,
                on_text=(lambda text: click.echo(text, nl=False)) if streams else None,
                node=here,
            )
    except Interrupted as stop:
        if here is None:
            raise
        click.echo(str(stop), err=True)
        raise click.exceptions.Exit(
            supervisor.STOPPED
        ) from None  # launch does not count this as a failure
    if not streams:
        options.echo_result(result, as_json=as_json)


@contextmanager
def _interruptible(again: str, folders: Sequence[Path]) -> Iterator[None]:
    """Add the command that continues a training to a Ctrl-C that saves no checkpoint.

    That is one outside the steps, or a second one.

    Args:
        again: the command; "" adds nothing.
        folders: directories of the runs; the command goes on where one has a checkpoint.

    Raises:
        Interrupted: Ctrl-C was pressed, and ``again`` is not "".
    """
    try:
        yield
    except KeyboardInterrupt:
        if not again:
            raise
        from gpt2dsl.engine.rundir import what_next  # noqa: PLC0415  # NumPy: only where runs are

        raise Interrupted("G2-404", f"interrupted\n{what_next(again, folders)}") from None


def _show(plan: Plan | ChainPlan) -> None:
    if not terminal.is_quiet():
        click.echo(str(plan), err=True)


def _again(
    spec: str, settings: Sequence[str], name: str | None, anew: Sequence[str], *, several: bool
) -> str:
    """Return the command that resumes after an interruption, by launch for several machines.

    ``anew`` are keys of resume that are ``never`` now; the command must not start anew again.
    """
    others = [setting for setting in settings if setting.partition("=")[0].strip() not in anew]
    words = ["gpt2dsl", "launch" if several else "run", spec]
    words += [] if name is None else ["--name", name]
    for setting in (*others, *(f"{key}=auto" for key in anew)):
        words += ["--set", setting]
    return shlex.join(words) + (" --hosts FILE" if several else "")
