"""Shared recipes: packages that register under the entry point ``gpt2dsl.recipes``.

A package's modules are its recipes: ``gpt2_124m_finetune.py`` holds ``recipe`` and is found as
``gpt2-124m-finetune``. Ours is ``recipes``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points

import attrs
import regex

from gpt2dsl.errors import Fault, SpecError, did_you_mean

_GROUP = "gpt2dsl.recipes"


@attrs.frozen
class Entry:
    """A shared recipe.

    Attributes:
        name: ``gpt2-124m-finetune``.
        target: ``module:name`` that holds it.
        package: the distribution that brings it.
        version: of that distribution.
    """

    name: str
    target: str
    package: str
    version: str


def entries() -> Iterator[Entry]:
    """Every shared recipe that is installed."""
    for point in sorted(set(entry_points(group=_GROUP)), key=lambda point: point.value):
        package = import_module(point.value)
        for module in pkgutil.iter_modules(package.__path__):
            yield Entry(
                _name(module.name),
                f"{point.value}.{module.name}:recipe",
                point.dist.name if point.dist else point.value,
                point.dist.version if point.dist else "",
            )


def find(name: str) -> Entry:
    """The shared recipe of that name.

    Raises:
        SpecError: there is none, or there are several.
    """
    known = list(entries())
    found = [entry for entry in known if entry.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        message = f"is in {' and in '.join(entry.package for entry in found)}; say module:name"
    else:
        near = did_you_mean(name, [entry.name for entry in known])
        hint = near or "; gpt2dsl list shows the library"
        message = f"is no recipe of the library, no .toml file and no module:name{hint}"
    raise SpecError([Fault("G2-002", "", name, message)])


def _name(module: str) -> str:
    """``gpt2_1_5b_finetune`` → ``gpt2-1.5b-finetune``."""
    return regex.sub(r"(?<=-\d)-(?=\d+b)", ".", module.replace("_", "-"))
