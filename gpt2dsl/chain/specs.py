"""SPEC of the command line: a recipe or a chain."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gpt2dsl import library
from gpt2dsl.chain.chain import Chain, build, merge, parse_overrides
from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.library import finding
from gpt2dsl.recipe import Recipe, structured
from gpt2dsl.spec import read, tables

if TYPE_CHECKING:
    from gpt2dsl.chain.plan import ChainPlan
    from gpt2dsl.plan.plan import Plan


def load(spec: str, settings: Iterable[str] = ()) -> Recipe | Chain:
    """Return the recipe or chain of a .toml file, ``module:name`` or a name of the library.

    Raises:
        SpecError: every fault of the spec.
    """
    recipe, faults = _read(spec, settings)
    if faults:
        raise SpecError((*faults, *_faults_of_complete(recipe, faults)))
    return recipe


def examine(spec: str, settings: Iterable[str] = ()) -> tuple[Recipe | Chain, tuple[Fault, ...]]:
    """Return the valid values of a spec with every fault, those of its inputs included."""
    recipe, faults = _read(spec, settings)
    return recipe, (*faults, *_faults_of_complete(recipe, faults))


def planned(recipe: Recipe | Chain, *, prepare: bool = False) -> Plan | ChainPlan:
    """Return the plan of a recipe, prepared on demand, or of a chain, whose stages prepare later.

    Raises:
        SpecError: every fault, those of the inputs included.
    """
    try:
        return recipe.plan() if isinstance(recipe, Chain) else recipe.plan(prepare=prepare)
    except SpecError as error:
        raise SpecError(dict.fromkeys([*error.faults, *recipe.faults()])) from None


def _faults_of_complete(recipe: Recipe | Chain, faults: tuple[Fault, ...]) -> Iterator[Fault]:
    """Yield the faults of a complete recipe and of its inputs.

    Faults of single values do not hide them, but neither a faulty value nor the default of a
    misspelled key is reported again. If a spec that this one extends could not be read, any fault
    but a missing input may be a consequence and is left out.
    """
    if faults and isinstance(recipe, Recipe) and not recipe.parts:  # nothing could be read
        return
    parts = tuple(
        known.key.rpartition("extends")[0] for known in faults if known.code in tables.UNREAD
    )
    faulty = {
        _meant(known) if known.code in ("G2-101", "G2-104") else known.key.partition(" ")[0]
        for known in faults
    } - {""}
    for fault in recipe.faults():
        key = fault.key.partition(" ")[0]
        no_task = key.endswith("task") and any(known.startswith(f"{key}.") for known in faulty)
        is_known = no_task or key in faulty or _overlap(fault.compared, faulty)
        if not (is_known or _follows(fault, parts)):
            yield fault


def _overlap(keys: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether two sets of keys and tables share one, or a key of a table."""
    return any(
        f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")
        for key, other in itertools.product(keys, others)
    )


def _follows(fault: Fault, unread: tuple[str, ...]) -> bool:
    """Return whether a fault may be a consequence of a spec that could not be read.

    ``unread`` are the key prefixes of the stages that were read in part; "" for a recipe.
    """
    is_explicit = fault.code == "G2-301" and fault.origin and not fault.key.endswith(" = auto")
    passed_on = bool(unread) and fault.key.endswith(".model.weights = auto")
    return passed_on or (fault.key.startswith(unread) and not is_explicit)


def _meant(fault: Fault) -> str:
    """Return the key that an unknown key is probably a misspelling of, "" if none is known."""
    return f"{fault.key.rpartition('.')[0]}.{fault.meant}" if fault.meant else ""


def _read(spec: str, settings: Iterable[str]) -> tuple[Recipe | Chain, tuple[Fault, ...]]:
    """Return the valid values of a spec with every fault of the others."""
    try:
        config = finding.find(spec)
    except SpecError as error:
        return Recipe(), error.faults
    return _built(config, config.name or finding.name_of(spec), finding.file_of(spec), settings)


def shared(entry: library.LibraryEntry) -> Recipe | Chain:
    """Return a shared recipe, even if another package has one of the same name.

    Raises:
        SpecError: every fault of the recipe.
    """
    config = finding.shared(entry)
    recipe, faults = _built(config, config.name or entry.name, entry.target)
    if faults:
        raise SpecError(faults)
    return recipe


def _built(
    config: tables.RawConfig | tables.ChainDrafts,
    name: str,
    file: str,
    settings: Iterable[str] = (),
) -> tuple[Recipe | Chain, tuple[Fault, ...]]:
    if isinstance(config, tables.RawConfig):
        return structured(read.overrides(tuple(settings)).over(config), name)
    values, malformed = read.parse_settings(tuple(settings))
    above, misplaced = parse_overrides(len(config.drafts), values)
    chain, faults = build(merge(above, config), name, file)
    return chain, (*malformed, *misplaced, *faults)
