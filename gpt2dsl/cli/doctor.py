"""``gpt2dsl doctor``: checks of this machine."""

from __future__ import annotations

import attrs
import click

from gpt2dsl.cli import options, table


@click.command(
    "doctor",
    help="Check whether this machine is ready and suggest remedies. Exit with code 1 if runs would "
    "fail.",
)
@options.as_json
@click.pass_context
def command(context: click.Context, /, as_json: bool) -> None:
    from gpt2dsl.library import doctor  # noqa: PLC0415  # imported on demand

    findings = doctor.examine()
    if as_json:
        options.echo_json([attrs.asdict(finding) for finding in findings])
    else:
        rows = [(finding.what, finding.state, finding.detail, finding.mend) for finding in findings]
        table.echo([("what", "state", "found", "what to do"), *rows])
    context.exit(1 if any(finding.state == doctor.WRONG for finding in findings) else 0)
