"""Jinja environment of chat templates, as in transformers."""

from __future__ import annotations

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gpt2dsl.errors import InputError


class _Generation(Extension):
    """Tag ``{% generation %}``, which marks an assistant's text for training; here a no-op."""

    tags = {"generation"}  # noqa: RUF012  # as in its base class

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Return the sandboxed environment of a template."""
    return ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )


def check(source: str, name: str) -> None:
    """Refuse a template with syntax errors (G2-304)."""
    try:
        environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        message = f"line {error.lineno}: it is no template: {error.message}"
        raise InputError("G2-304", name, message) from None
