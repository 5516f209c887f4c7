"""The algebra: parts joined by ``|`` into a recipe, and its doors to TOML, library and plans."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.library import finding
from gpt2dsl.notebook import preformatted
from gpt2dsl.parts import TABLES, Part
from gpt2dsl.parts.base import caller
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.spec import read, tables
from gpt2dsl.spec.write import to_toml

if TYPE_CHECKING:
    from gpt2dsl.chain.chain import Chain
    from gpt2dsl.engine.callbacks import Callback
    from gpt2dsl.plan.plan import Plan


class Recipe:
    """A frozen set of parts, at most one of each kind.

    ``|`` is associative and commutative, and ``Recipe()`` is its identity. Two recipes are equal
    if their parts are, wherever these were written.

    Attributes:
        name: what runs of it are called, which decides no result; "" for what names it elsewhere:
            a file, a variable, or its size and task.

    Raises:
        SpecError: a kind of part is there twice, or no directory can have the name.
    """

    __slots__ = ("_parts", "name")

    def __init__(self, *parts: Part, name: str = "") -> None:
        found: dict[str, Part] = {}
        for part in parts:
            if not isinstance(part, Part):
                raise TypeError(f"a recipe is made of parts, not of {type(part).__name__}")
            if part.table in found:
                raise SpecError([_twice(found[part.table], part)])
            found[part.table] = part
        self._parts = {table: found[table] for table in TABLES if table in found}
        self.name = finding.checked_name(name)

    @property
    def parts(self) -> Mapping[str, Part]:
        """Return table → part, in the order in which recipes are written."""
        return MappingProxyType(self._parts)

    def __or__(self, other: Part | Recipe) -> Recipe:
        return _joined(self, other)

    def __eq__(self, other: object) -> bool:
        return self._parts == other._parts if isinstance(other, Recipe) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._parts.items()))

    def __repr__(self) -> str:
        parts = list(map(repr, self._parts.values()))
        return " | ".join(parts) if len(parts) > 1 else f"Recipe({''.join(parts)})"

    def _repr_html_(self) -> str:
        return preformatted(self.to_toml())

    if TYPE_CHECKING:  # gpt2dsl.chain, which stands above recipes, gives them their `>>`

        def __rshift__(self, other: Part | Recipe | Chain) -> Chain: ...

    def named(self, name: str) -> Recipe:
        """Return the recipe under another name: ``(model | task).named("wiki")``.

        Raises:
            SpecError: no directory can have the name.
        """
        return Recipe(*self._parts.values(), name=name)

    def replace(self, *parts: Part) -> Recipe:
        """Return the recipe with these parts added, or replacing those of the same kind."""
        new = Recipe(*parts)
        return Recipe(*{**self._parts, **new._parts}.values(), name=self.name)

    def set(self, key: str, value: object) -> Recipe:
        """Return the recipe with one value changed: ``recipe.set("optim.lr", 3e-4)``.

        Raises:
            SpecError: there is no such key, or the value is wrong for it.
        """
        return self.override({key: (value, caller())})

    def override(self, values: Mapping[str, tuple[object, str]]) -> Recipe:
        """Return the recipe with several values changed: key → value, and where it was written.

        Raises:
            SpecError: with every fault of the values.
        """
        above = read.values({key: tables.Value(*said) for key, said in values.items()})
        return _whole(structured(above.over(self.draft()), self.name))

    def draft(self) -> tables.RawConfig:
        """Return its values, and where each was written."""
        return tables.of_parts(self._parts, self.name)

    def to_toml(self) -> str:
        """Return the recipe as a spec; ``Recipe.from_toml`` reads it back."""
        return to_toml(self._parts.values())

    @classmethod
    def from_toml(cls, text: str, name: str = "recipe.toml") -> Recipe:
        """Read a recipe from TOML; ``name`` is the file name in its messages.

        Raises:
            SpecError: with every fault of the text, or it is a chain.
        """
        return _whole(structured(finding.recipe_text(text, name), ""))

    @classmethod
    def load(cls, spec: str | os.PathLike[str], settings: Iterable[str] = ()) -> Recipe:
        """Load a recipe from a .toml file, from ``module:name``, or from the library.

        Args:
            spec: which; as on the command line.
            settings: ``table.key=value``, laid over it.

        Raises:
            SpecError: with every fault of it.
        """
        spec = os.fspath(spec)
        draft = finding.recipe(spec)
        name = draft.name or finding.name_of(spec)
        return _whole(structured(read.overrides(tuple(settings)).over(draft), name))

    @property
    def completed(self) -> Parts:
        """One part of each kind, those with defaults that it leaves out too."""
        return Parts.of(self._parts.values())

    @property
    def digest(self) -> str:
        """Return the SHA-256 of what decides the result: not ``[parallel]`` or ``[runtime]``."""
        return self.completed.digest()

    def why(self) -> list[tuple[str, Any, str]]:
        """Return each key, its value and its origin: default, ``x.toml:12``, ``recipe.py:8``."""
        return self.completed.why()

    def plan(self, *, prepare: bool = False) -> Plan:
        """Check the recipe as a whole, and plan what will run; without MindSpore.

        Args:
            prepare: fetch weights from the Hub and tokenise the data first, where that was never
                done, so that the plan's numbers of rows and steps are exact and not estimates.

        Raises:
            SpecError: with every fault of the recipe as a whole.
        """
        from gpt2dsl.plan.plan import make  # noqa: PLC0415  # a recipe is built without planning

        return make(self.completed, self.to_toml(), self.name, prepare=prepare)

    def faults(self) -> tuple[Fault, ...]:
        """Return every fault of the recipe as a whole, and of the inputs that it names."""
        from gpt2dsl.plan.faults import faults  # noqa: PLC0415  # a recipe is built without planning

        return faults(self.completed)


def callbacks_of(spec: str) -> list[tuple[Callback, ...]]:
    """Return the list ``callbacks`` beside each stage of a spec, of a recipe one.

    Args:
        spec: as on the command line; a chain in Python has one list for all of its stages, one in
            TOML has those of the recipes that its stages extend.

    Raises:
        SpecError: one is no list, or something in it is no callback.
    """
    return list(map(_callbacks, finding.modules_of(spec)))


def _callbacks(module: ModuleType | None) -> tuple[Callback, ...]:
    """Return the list ``callbacks`` of a module; () where there is none."""
    if module is None or not hasattr(module, "callbacks"):
        return ()
    from gpt2dsl.engine.callbacks import Callback, Named  # noqa: PLC0415  # few recipes have some

    listed = module.callbacks
    wrong = (
        [listed]
        if not isinstance(listed, list | tuple)
        else [one for one in listed if isinstance(one, type) or not isinstance(one, Callback)]
    )
    if wrong:
        advice = "expected a list of objects of subclasses of gpt2dsl.Callback"
        message = f"{advice}, found {wrong[0]!r}"
        raise SpecError([Fault("G2-201", "", f"{module.__name__}:callbacks", message)])
    return tuple(map(Named, listed))


def structured(draft: tables.RawConfig, name: str) -> tuple[Recipe, tuple[Fault, ...]]:
    """Return the recipe of what is good in a draft, and every fault of the rest."""
    parts, faults = tables.structure(draft)
    return Recipe(*parts.values(), name=name), faults


def _whole(found: tuple[Recipe, tuple[Fault, ...]]) -> Recipe:
    recipe, faults = found
    if faults:
        raise SpecError(faults)
    return recipe


def _twice(first: Part, second: Part) -> Fault:
    kind = type(first).__name__ if type(first) is type(second) else first.table.capitalize()
    message = f"{kind} twice: at {first.origin} and at {second.origin}; replace() changes one"
    return Fault("G2-106", second.origin, second.table, message)


def _joined(left: Part | Recipe, right: Part | Recipe) -> Recipe:
    if not isinstance(right, Part | Recipe):
        return NotImplemented
    names = [side.name for side in (left, right) if isinstance(side, Recipe)]
    return Recipe(*_parts_of(left), *_parts_of(right), name=next(filter(None, names), ""))


def _parts_of(side: Part | Recipe) -> tuple[Part, ...]:
    return tuple(side.parts.values()) if isinstance(side, Recipe) else (side,)


# The algebra stands above the parts, so it is here that they get their `|`.
Part.__or__ = _joined  # type: ignore[method-assign]
