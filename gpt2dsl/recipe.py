"""The recipe algebra: parts joined by ``|``, with conversion to and from TOML, and plans."""

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
    if their parts are, regardless of their origins.

    Attributes:
        name: name of its runs, without influence on results; "" to derive it from the file, the
            variable, or the model size and task.

    Raises:
        SpecError: a kind of part appears twice, or no directory can have the name.
    """

    __slots__ = ("_parts", "name")

    def __init__(self, *parts: Part, name: str = "") -> None:
        by_table: dict[str, Part] = {}
        for part in parts:
            if not isinstance(part, Part):
                raise TypeError(f"a recipe is made of parts, not of {type(part).__name__}")
            if part.table in by_table:
                raise SpecError([_twice(by_table[part.table], part)])
            by_table[part.table] = part
        self._parts = {table: by_table[table] for table in TABLES if table in by_table}
        self.name = finding.checked_name(name)

    @property
    def parts(self) -> Mapping[str, Part]:
        """Mapping table → part, in the order of the tables."""
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

    if TYPE_CHECKING:  # `>>` is assigned by gpt2dsl.chain, a layer above recipes

        def __rshift__(self, other: Part | Recipe | Chain) -> Chain: ...

    def named(self, name: str) -> Recipe:
        """Return the recipe with another name: ``(model | task).named("wiki")``.

        Raises:
            SpecError: no directory can have the name.
        """
        return Recipe(*self._parts.values(), name=name)

    def replace(self, *parts: Part) -> Recipe:
        """Return the recipe with these parts added, replacing parts of the same kind."""
        new = Recipe(*parts)
        return Recipe(*{**self._parts, **new._parts}.values(), name=self.name)

    def set(self, key: str, value: object) -> Recipe:
        """Return the recipe with one value changed: ``recipe.set("optim.lr", 3e-4)``.

        Raises:
            SpecError: the key is unknown, or the value is invalid.
        """
        return self.override({key: (value, caller())})

    def override(self, values: Mapping[str, tuple[object, str]]) -> Recipe:
        """Return the recipe with several values changed: key → value and its origin.

        Raises:
            SpecError: values are invalid; lists every fault.
        """
        above = read.values({key: tables.Value(*pair) for key, pair in values.items()})
        return _require_valid(structured(above.over(self.draft()), self.name))

    def draft(self) -> tables.RawConfig:
        """Return its values with their origins."""
        return tables.of_parts(self._parts, self.name)

    def to_toml(self) -> str:
        """Return the recipe as a spec; ``Recipe.from_toml`` reads it back."""
        return to_toml(self._parts.values())

    @classmethod
    def from_toml(cls, text: str, name: str = "recipe.toml") -> Recipe:
        """Read a recipe from TOML; ``name`` is the file name in error messages.

        Raises:
            SpecError: the text is invalid, with every fault listed, or it is a chain.
        """
        return _require_valid(structured(finding.recipe_text(text, name), ""))

    @classmethod
    def load(cls, spec: str | os.PathLike[str], settings: Iterable[str] = ()) -> Recipe:
        """Load a recipe from a .toml file, from ``module:name``, or from the library.

        Args:
            spec: file, ``module:name`` or library name, as on the command line.
            settings: overrides, ``table.key=value``.

        Raises:
            SpecError: the recipe is invalid; lists every fault.
        """
        spec = os.fspath(spec)
        draft = finding.recipe(spec)
        name = draft.name or finding.name_of(spec)
        return _require_valid(structured(read.overrides(tuple(settings)).over(draft), name))

    @property
    def completed(self) -> Parts:
        """One part of each kind, with defaults for missing ones."""
        return Parts.of(self._parts.values())

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides the result: not ``[parallel]`` or ``[runtime]``."""
        return self.completed.digest()

    def why(self) -> list[tuple[str, Any, str]]:
        """Return each key, its value and its origin: default, ``x.toml:12``, ``recipe.py:8``."""
        return self.completed.why()

    def plan(self, *, prepare: bool = False) -> Plan:
        """Validate the complete recipe and plan its run, without MindSpore.

        Args:
            prepare: fetch weights from the Hub and tokenise the data first, unless cached, so that
                the plan's numbers of rows and steps are exact instead of estimates.

        Raises:
            SpecError: the recipe is invalid; lists every fault.
        """
        from gpt2dsl.plan.plan import make  # noqa: PLC0415  # a recipe is built without planning

        return make(self.completed, self.to_toml(), self.name, prepare=prepare)

    def faults(self) -> tuple[Fault, ...]:
        """Return every fault of the complete recipe and of its inputs."""
        from gpt2dsl.plan.faults import faults  # noqa: PLC0415  # a recipe is built without planning

        return faults(self.completed)


def callbacks_of(spec: str) -> list[tuple[Callback, ...]]:
    """Return the list ``callbacks`` from the module of each stage of a spec, one for a recipe.

    Args:
        spec: as on the command line; a Python chain has one list for all of its stages, a TOML
            chain has the lists of the recipes that its stages extend.

    Raises:
        SpecError: ``callbacks`` is not a list of callbacks.
    """
    return list(map(_callbacks, finding.modules_of(spec)))


def _callbacks(module: ModuleType | None) -> tuple[Callback, ...]:
    """Return the list ``callbacks`` of a module; () without one."""
    if module is None or not hasattr(module, "callbacks"):
        return ()
    from gpt2dsl.engine import callbacks  # noqa: PLC0415  # few recipes have callbacks

    listed = callbacks.checked(module.callbacks, f"{module.__name__}:callbacks")
    return tuple(map(callbacks.Named, listed))


def structured(draft: tables.RawConfig, name: str) -> tuple[Recipe, tuple[Fault, ...]]:
    """Return the recipe of a draft's valid parts, and every fault of the others."""
    parts, faults = tables.structure(draft)
    return Recipe(*parts.values(), name=name), faults


def _require_valid(built: tuple[Recipe, tuple[Fault, ...]]) -> Recipe:
    recipe, faults = built
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


def _missing(part: Part, name: str) -> Any:
    """Raise AttributeError; where recipes have the attribute, name the recipe of the part."""
    message = f"{type(part).__name__!r} object has no attribute {name!r}"
    if not name.startswith("_") and (name == "run" or hasattr(Recipe, name)):
        has_it = "plan().run" if name == "run" else name
        message += f": a part is no recipe yet; Recipe({part._called()}(...)).{has_it} has it"  # noqa: SLF001
    raise AttributeError(message, name=name, obj=part)


# Parts are in a layer below, so they get their `|` here, and this message.
Part.__or__ = _joined  # type: ignore[method-assign]
Part.__getattr__ = _missing  # type: ignore[attr-defined]
