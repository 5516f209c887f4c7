"""SPEC on the command line, which may be one recipe or a chain."""

from __future__ import annotations

from collections.abc import Iterable

from gpt2dsl import library
from gpt2dsl.chain.chain import Chain, laid, made, said
from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.library import finding
from gpt2dsl.recipe import Recipe, structured
from gpt2dsl.spec import read, tables


def load(spec: str, settings: Iterable[str] = ()) -> Recipe | Chain:
    """What a .toml file, ``module:name`` or a name of the library stands for.

    Args:
        spec: which.
        settings: ``table.key=value``, of chains ``stage.N.table.key=value``, laid over it.

    Raises:
        SpecError: with every fault of it.
    """
    found, faults = examine(spec, settings)
    if faults:
        raise SpecError(faults)
    return found


def examine(spec: str, settings: Iterable[str] = ()) -> tuple[Recipe | Chain, tuple[Fault, ...]]:
    """As ``load``, but gives what is good in it beside every fault."""
    try:
        found = finding.find(spec)
    except SpecError as error:
        return Recipe(), error.faults
    return _built(found, found.name or finding.name_of(spec), finding.file_of(spec), settings)


def shared(entry: library.Entry) -> Recipe | Chain:
    """Return a shared recipe, whether or not another package has one of its name.

    Raises:
        SpecError: with every fault of it.
    """
    found = finding.shared(entry)
    recipe, faults = _built(found, found.name or entry.name, entry.target)
    if faults:
        raise SpecError(faults)
    return recipe


def _built(
    found: tables.Draft | tables.Stages, name: str, file: str, settings: Iterable[str] = ()
) -> tuple[Recipe | Chain, tuple[Fault, ...]]:
    if isinstance(found, tables.Draft):
        return structured(read.overrides(tuple(settings)).over(found), name)
    values, unsaid = read.said_by(tuple(settings))
    above, elsewhere = said(len(found.drafts), values)
    chain, faults = made(laid(above, found), name, file)
    return chain, (*unsaid, *elsewhere, *faults)
