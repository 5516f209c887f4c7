"""The Jinja in which chat templates are written, as transformers has it."""

from __future__ import annotations

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gpt2dsl.errors import InputError


class _Generation(Extension):
    """``{% generation %}``: marks what an assistant says, for training; the text stays as it is."""

    tags = {"generation"}  # noqa: RUF012  # its base class has it so

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Return the sandbox of a template."""
    return ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )


def check(source: str, name: str) -> None:
    """Refuse what is no template.

    Args:
        source: of it.
        name: of its file.

    Raises:
        InputError: it is none.
    """
    try:
        environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        message = f"line {error.lineno}: it is no template: {error.message}"
        raise InputError("G2-304", name, message) from None
