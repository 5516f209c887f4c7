"""``gpt2dsl doctor``: whether this machine is ready."""

from __future__ import annotations

import attrs
import click

from gpt2dsl.cli import options, table


@click.command(
    "doctor",
    help="Say whether this machine is ready, and what to do where it is not. Exit code 1 "
    "where runs would fail.",
)
@options.as_json
@click.pass_context
def command(context: click.Context, /, as_json: bool) -> None:
    """Examine this machine."""
    from gpt2dsl.library import doctor  # noqa: PLC0415  # only where it is called

    found = doctor.examine()
    if as_json:
        options.echo_json([attrs.asdict(one) for one in found])
    else:
        rows = [(one.what, one.state, one.detail, one.mend) for one in found]
        table.echo([("what", "state", "found", "what to do"), *rows])
    context.exit(1 if any(one.state == doctor.WRONG for one in found) else 0)
