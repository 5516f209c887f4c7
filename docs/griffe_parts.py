"""Tell mkdocstrings what the fields of a part mean, by the rules that check them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import attrs
import griffe

from gpt2dsl.parts import Part


class Parts(griffe.Extension):
    """List the fields of a part with what they mean, what they accept and their defaults."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Describe a class where it is a part."""
        if cls.module.path.startswith("gpt2dsl.parts."):
            kind = getattr(import_module(cls.module.path), cls.name, None)
            if isinstance(kind, type) and attrs.has(kind) and issubclass(kind, Part):
                _describe(cls, kind)


def _describe(cls: griffe.Class, part: type[Part]) -> None:
    """Put the fields into the docstring, one a line, in the place of the members."""
    rules = part.rules()
    lines = []
    for field in part.fields():
        rule = rules[field.name]
        default = "required" if rule.required else f"default `{field.default!r}`"
        annotation = cls.attributes[field.name].annotation
        lines.append(f"    {field.name} ({annotation}): {rule.doc}; {rule.expected}; {default}")
    text = cls.docstring.value if cls.docstring else ""
    text = "\n".join([text.partition("\n\nAttributes:")[0], "", "Attributes:", *lines])
    cls.docstring = griffe.Docstring(text, parent=cls)
    cls.members.clear()


EXTENSIONS = [Parts]
