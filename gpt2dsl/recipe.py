"""The algebra: parts joined by ``|`` into a recipe, and its doors to TOML, library and plans."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gpt2dsl import library
from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.parts import TABLES, Part
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.spec import read, tables
from gpt2dsl.spec.write import to_toml

if TYPE_CHECKING:
    from gpt2dsl.engine.callbacks import Callback
    from gpt2dsl.plan.plan import Plan


class Recipe:
    """A frozen set of parts, at most one of each kind.

    ``|`` is associative and commutative, and ``Recipe()`` is its identity. Two recipes are equal
    if their parts are, wherever these were written.

    Attributes:
        name: what runs of it are called; "" for the name that its size and task give.
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
        self.name = name

    @property
    def parts(self) -> Mapping[str, Part]:
        """Table → part, in the order in which recipes are written."""
        return MappingProxyType(self._parts)

    def __or__(self, other: Part | Recipe) -> Recipe:
        return _joined(self, other)

    def __eq__(self, other: object) -> bool:
        return self._parts == other._parts if isinstance(other, Recipe) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._parts.items()))

    def __repr__(self) -> str:
        parts = list(map(repr, self._parts.values()))
        return " | ".join(parts if len(parts) > 1 else ["Recipe()", *parts])

    def replace(self, *parts: Part) -> Recipe:
        """The recipe with these parts in the place of those of the same kind, or added."""
        new = Recipe(*parts)
        return Recipe(*{**self._parts, **new._parts}.values(), name=self.name)

    def set(self, key: str, value: object) -> Recipe:
        """The recipe with one value changed: ``recipe.set("optim.lr", 3e-4)``.

        Raises:
            SpecError: there is no such key, or the value is wrong for it.
        """
        return self.override({key: (value, "set()")})

    def override(self, values: Mapping[str, tuple[object, str]]) -> Recipe:
        """The recipe with several values changed: key → value, and where it was written.

        Raises:
            SpecError: with every fault of the values.
        """
        above = read.values({key: tables.Value(*said) for key, said in values.items()})
        return _structured(above.over(tables.of_parts(self._parts)), self.name)

    def to_toml(self) -> str:
        """The recipe as a spec; ``Recipe.from_toml`` gives it back."""
        return to_toml(self._parts.values())

    @classmethod
    def from_toml(cls, text: str, name: str = "recipe.toml") -> Recipe:
        """The recipe of a spec's text; ``name`` is what its lines are called in messages.

        Raises:
            SpecError: with every fault of the text.
        """
        return _structured(read.read_text(text, name, _Finder()), "")

    @classmethod
    def load(cls, spec: str, settings: Iterable[str] = ()) -> Recipe:
        """The recipe of a .toml file, of ``module:name``, or of the library.

        Args:
            spec: which; as on the command line.
            settings: ``table.key=value``, laid over it.

        Raises:
            SpecError: with every fault of it.
        """
        recipe, faults = cls.examine(spec, settings)
        if faults:
            raise SpecError(faults)
        return recipe

    @classmethod
    def examine(cls, spec: str, settings: Iterable[str] = ()) -> tuple[Recipe, tuple[Fault, ...]]:
        """As ``load``, but gives what is good in it beside every fault."""
        try:
            draft = read.overrides(tuple(settings)).over(_Finder()(spec, ""))
        except SpecError as error:
            return Recipe(), error.faults
        parts, faults = tables.structure(draft)
        return Recipe(*parts.values(), name=_name_of(spec)), faults

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the result: all parts but ``[parallel]`` and ``[runtime]``."""
        return Parts.of(self._parts.values()).digest()

    def why(self) -> list[tuple[str, Any, str]]:
        """Key, value and origin of each field: default, ``x.toml:12``, ``recipe.py:8``, --set."""
        return [
            (f"{part.table}.{field}", getattr(part, field), part.why(field))
            for part in Parts.of(self._parts.values())
            for field in part.rules()
        ]

    def plan(self, *, prepare: bool = False) -> Plan:
        """What will run, checked; without MindSpore.

        Args:
            prepare: fetch weights from the Hub and tokenise the data first, where that was never
                done, so that the plan's numbers of rows and steps are exact and not estimates.

        Raises:
            SpecError: with every fault of the recipe as a whole.
        """
        from gpt2dsl.plan.plan import make  # noqa: PLC0415  # a recipe is built without planning

        return make(Parts.of(self._parts.values()), self.to_toml(), self.name, prepare=prepare)

    def faults(self) -> tuple[Fault, ...]:
        """Every fault of the recipe as a whole, and of the inputs that it names."""
        from gpt2dsl.plan.plan import faults  # noqa: PLC0415  # a recipe is built without planning

        return faults(Parts.of(self._parts.values()))


def callbacks_of(spec: str) -> tuple[Callback, ...]:
    """The list ``callbacks`` beside the recipe that ``module:name`` names; () where there is none.

    Args:
        spec: as on the command line; files of TOML have none.
    """
    module = spec.partition(":")[0] if ":" in spec and not spec.endswith(".toml") else ""
    return tuple(getattr(sys.modules.get(module), "callbacks", ()))


class _Finder:
    """Finds the draft of a recipe by name, and follows ``extends``, but not in circles."""

    def __init__(self) -> None:
        self._chain: list[str] = []

    def __call__(self, name: str, named_by: str) -> tables.Draft:
        path = Path(name)
        if path.suffix == ".toml":
            beside = Path(named_by).parent / path
            return self._once(beside if beside.exists() else path)
        if ":" in name:
            return tables.of_parts(_imported(name).parts)
        return tables.of_parts(_imported(library.find(name).target).parts)

    def _once(self, path: Path) -> tables.Draft:
        key = str(path.resolve())
        if key in self._chain:
            raise SpecError([Fault("G2-004", "", str(path), "leads back to itself")])
        self._chain.append(key)
        return read.read_file(path, str(path), self)


def _imported(target: str) -> Recipe:
    """The recipe that ``module:name`` holds."""
    module_name, _, attribute = target.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), attribute, None)
    except ModuleNotFoundError as error:
        if error.name and module_name.split(".")[0] != error.name.split(".")[0]:
            raise
        raise SpecError([Fault("G2-002", "", target, f"no module {module_name}")]) from None
    finally:
        sys.path.pop(0)
    if isinstance(found, Recipe):
        return found
    raise SpecError([Fault("G2-002", "", target, f"expected a Recipe, found {found!r}")])


def _name_of(spec: str) -> str:
    return Path(spec).stem if spec.endswith(".toml") else spec.rpartition(":")[2]


def _structured(draft: tables.Draft, name: str) -> Recipe:
    parts, faults = tables.structure(draft)
    if faults:
        raise SpecError(faults)
    return Recipe(*parts.values(), name=name)


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
