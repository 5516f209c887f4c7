"""``gpt2dsl ranktable generate`` and ``merge``: rank tables for HCCL."""

from __future__ import annotations

from pathlib import Path

import click

from gpt2dsl.cluster import hccn, ranktable
from gpt2dsl.errors import counted


@click.group("ranktable", help="Generate or merge rank tables of Ascend servers.")
def command() -> None:
    """Rank tables."""


@command.command("generate", help="Generate the table of this server.")
@click.option("--devices", metavar="IDS", default="0-7", show_default=True, help="0-3, or 0,1.")
@click.option(
    "--server-ip", metavar="IP", default="", help="Default: the address of the host name."
)
@click.option(
    "--hccn-conf",
    type=click.Path(path_type=Path),
    default=hccn.CONF,
    show_default=True,
    help="Addresses of devices, if hccn_tool is not installed.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Default: stdout.")
def generate(devices: str, server_ip: str, hccn_conf: Path, out: Path | None) -> None:
    table = ranktable.generate(devices, server_ip, hccn_conf)
    if out is None:
        click.echo(str(table))
    else:
        _write(out, table)


@command.command("merge", help="Merge the tables of servers, in any order.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", required=True)
def merge(files: tuple[Path, ...], out: Path) -> None:
    _write(out, ranktable.merge_files(files))


def _write(out: Path, table: ranktable.RankTable) -> None:
    ranktable.write(out, table)
    servers = len(table.servers)
    click.echo(
        f"{counted(servers, 'server')}, {counted(table.ranks, 'rank')}   {out}",
        err=True,
    )
