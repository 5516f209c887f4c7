"""SPEC on the command line, which may be one recipe or a chain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gpt2dsl import library
from gpt2dsl.chain.chain import Chain, laid, made, said
from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.library import finding
from gpt2dsl.recipe import Recipe, structured
from gpt2dsl.spec import read, tables

if TYPE_CHECKING:
    from gpt2dsl.chain.plan import ChainPlan
    from gpt2dsl.plan.plan import Plan


def load(spec: str, settings: Iterable[str] = ()) -> Recipe | Chain:
    """What a .toml file, ``module:name`` or a name of the library stands for.

    Args:
        spec: which.
        settings: ``table.key=value``, of chains ``stage.N.table.key=value``, laid over it.

    Raises:
        SpecError: with every fault of it.
    """
    found, faults = _read(spec, settings)
    if faults:
        raise SpecError((*faults, *_of_the_whole(found, faults)))
    return found


def examine(spec: str, settings: Iterable[str] = ()) -> tuple[Recipe | Chain, tuple[Fault, ...]]:
    """As ``load``, but gives what is good in it, and every fault of its inputs too."""
    found, faults = _read(spec, settings)
    return found, (*faults, *_of_the_whole(found, faults))


def planned(recipe: Recipe | Chain, *, prepare: bool = False) -> Plan | ChainPlan:
    """Return the plan of a recipe or a chain.

    Args:
        recipe: it.
        prepare: as in ``Recipe.plan``; a chain prepares its stages as it comes to them.

    Raises:
        SpecError: with every fault of it, those of its inputs too, which a plan alone would show.
    """
    try:
        return recipe.plan() if isinstance(recipe, Chain) else recipe.plan(prepare=prepare)
    except SpecError as error:
        raise SpecError(dict.fromkeys([*error.faults, *recipe.faults()])) from None


def _of_the_whole(found: Recipe | Chain, faults: tuple[Fault, ...]) -> Iterator[Fault]:
    """Yield the faults of a recipe as a whole, and of its inputs.

    Faults of values do not hide them, but a value that is faulty itself is not blamed again; nor is
    the default of a key that was meant by an unknown one. Where something that a spec extends could
    not be read, all but the absence of an input may follow from that.
    """
    if faults and isinstance(found, Recipe) and not found.parts:  # nothing could be read
        return
    parts = tuple(one.key.rpartition("extends")[0] for one in faults if one.code in tables.UNREAD)
    faulty = {key for one in faults for key in (one.key.partition(" ")[0], _meant(one))}
    for fault in found.faults():
        key = fault.key.partition(" ")[0]
        no_task = key.endswith("task") and any(one.startswith(f"{key}.") for one in faulty)
        if not (no_task or key in faulty or _follows(fault, parts)):
            yield fault


def _follows(fault: Fault, unread: tuple[str, ...]) -> bool:
    """Return whether a fault may follow from what could not be read.

    Args:
        fault: of a recipe as a whole.
        unread: what the keys of those stages begin with that are known in part, of a recipe "".
    """
    is_said = fault.code == "G2-301" and fault.origin and not fault.key.endswith(" = auto")
    passed_on = bool(unread) and fault.key.endswith(".model.weights = auto")
    return passed_on or (fault.key.startswith(unread) and not is_said)


def _meant(fault: Fault) -> str:
    """Return the key that an unknown one was probably to be; "" where that is not known."""
    return f"{fault.key.rpartition('.')[0]}.{fault.meant}" if fault.meant else ""


def _read(spec: str, settings: Iterable[str]) -> tuple[Recipe | Chain, tuple[Fault, ...]]:
    """Return what is good in what a name stands for, and every fault of its values."""
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
    found: tables.RawConfig | tables.ChainDrafts, name: str, file: str, settings: Iterable[str] = ()
) -> tuple[Recipe | Chain, tuple[Fault, ...]]:
    if isinstance(found, tables.RawConfig):
        return structured(read.overrides(tuple(settings)).over(found), name)
    values, unsaid = read.said_by(tuple(settings))
    above, elsewhere = said(len(found.drafts), values)
    chain, faults = made(laid(above, found), name, file)
    return chain, (*unsaid, *elsewhere, *faults)
