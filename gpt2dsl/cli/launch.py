"""``gpt2dsl launch``: execution of a recipe on several machines."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from gpt2dsl.cli import options
from gpt2dsl.cluster import hosts, launch, ranktable
from gpt2dsl.errors import SpecError
from gpt2dsl.plan.plan import Plan
from gpt2dsl.recipe import Recipe


@click.command("launch", help="Run SPEC on several machines that share the directory.")
@options.spec
@options.settings
@click.option(
    "--hosts",
    "file",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="A machine per line: [user@]host [devices=8]; the first has rank 0.",
)
@click.option("--dry-run", is_flag=True, help="Print the commands without running them.")
@click.option("--ssh", default="ssh", show_default=True, help="Command that connects to a machine.")
@click.option("--port", type=click.IntRange(1, 65535), default=hosts.PORT, show_default=True)
@click.option("--master", metavar="ADDRESS", help="Address of the first machine for the others.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=".",
    help="Working directory on all machines; default: the current one.",
)
@click.option(
    "--command", "program", default="gpt2dsl", show_default=True, help="gpt2dsl on the machines."
)
def command(
    *,
    spec: str,
    settings: tuple[str, ...],
    file: Path,
    dry_run: bool,
    ssh: str,
    port: int,
    master: str | None,
    directory: Path,
    program: str,
) -> None:
    machines = hosts.read(file)
    directory = directory.absolute()
    os.chdir(directory)
    plan = Recipe.load(spec, settings).plan()
    if plan.world == 1:
        raise click.UsageError("one rank needs no other machine: gpt2dsl run")
    hosts.check(machines, plan.world, _table(plan))
    words = ["run", spec, *(word for setting in settings for word in ("--set", setting))]
    meet = f"{master or hosts.master(machines)}:{port}"
    commands = [
        [
            *shlex.split(ssh),
            host.address,
            hosts.remote(host, words, program=program, directory=directory, meet=meet),
        ]
        for host in machines
    ]
    if dry_run:
        click.echo("\n".join(map(shlex.join, commands)))
        for fault in plan.refusals():
            click.echo(f"launch would refuse: {fault}", err=True)
        return
    if refusals := plan.prepared().refusals():
        raise SpecError(refusals)
    launch.launch(machines, commands)


def _table(plan: Plan) -> ranktable.RankTable | None:
    """Return the rank table that the recipe names, None if it has none or can't use it."""
    for item in plan.inputs:
        if item.key == "runtime.rank_table" and not item.refusals:
            return ranktable.read(Path(item.name))
    return None
