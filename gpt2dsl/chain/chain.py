"""The algebra of chains: recipes composed by ``>>``, with conversion to TOML and plans."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.library import finding
from gpt2dsl.notebook import file_of, preformatted
from gpt2dsl.parts import Part
from gpt2dsl.parts.base import BINDS, caller
from gpt2dsl.recipe import Recipe, structured
from gpt2dsl.spec import read, tables
from gpt2dsl.spec.write import stages_to_toml

if TYPE_CHECKING:
    from gpt2dsl.chain.plan import ChainPlan

_KEY = re.compile(r"stage\.(\d+)\.(.+)")


class Chain:
    """A sequence of recipes that run one after another.

    A stage that names no weights takes those of the last stage before it that outputs weights.
    ``>>`` is associative; two chains are equal if their recipes are.

    Attributes:
        recipes: the recipes of the stages, in order.
        name: the name of its runs; "" to derive it from the tasks.
        author: the file that defines it, ``mine.toml`` or ``team.py:chain``. It distinguishes two
            chains of the same name, so that neither overwrites the outputs of the other.
    """

    __slots__ = ("_author", "name", "recipes")

    def __init__(self, *recipes: Recipe, name: str = "", author: str = "") -> None:
        if not recipes:
            raise TypeError("a chain has a stage at least")
        for recipe in recipes:
            if not isinstance(recipe, Recipe):
                raise TypeError(f"a chain is made of recipes, not of {type(recipe).__name__}")
        self.recipes = recipes
        self.name = finding.checked_name(name)
        self._author = author

    @property
    def author(self) -> str:
        """The file that the chain was loaded from, else the one that defines its first task."""
        tasks = (recipe.parts.get("task") for recipe in self.recipes)
        origin = next((task.origin for task in tasks if task), "")
        return self._author or file_of(origin)

    def __rshift__(self, other: Part | Recipe | Chain) -> Chain:
        if isinstance(other, Part):
            other = Recipe(other)
        if isinstance(other, Recipe):
            other = Chain(other)
        if not isinstance(other, Chain):
            return NotImplemented
        return Chain(*self.recipes, *other.recipes, name=self.name or other.name)

    def __or__(self, other: object) -> NoReturn:
        raise TypeError(BINDS)

    __ror__ = __or__

    def __eq__(self, other: object) -> bool:
        return self.recipes == other.recipes if isinstance(other, Chain) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.recipes)

    def __len__(self) -> int:
        return len(self.recipes)

    def __repr__(self) -> str:
        first, *later = self.recipes
        start = f"({first!r})" if len(first.parts) > 1 else repr(first)
        return " >> ".join((start, *map(_stage, later))) if later else f"Chain({first!r})"

    def _repr_html_(self) -> str:
        return preformatted(self.to_toml())

    @property
    def digest(self) -> str:
        """SHA-256 of the digests of the recipes, in order, which determine the result."""
        return hashlib.sha256(
            " ".join(recipe.digest for recipe in self.recipes).encode()
        ).hexdigest()

    def named(self, name: str) -> Chain:
        """Return the chain under another name.

        Raises:
            SpecError: the name is not valid as a directory name.
        """
        return Chain(*self.recipes, name=name, author=self._author)

    def set(self, key: str, value: object) -> Chain:
        """Return the chain with one value changed: ``chain.set("stage.1.optim.lr", 3e-4)``.

        Raises:
            SpecError: the stage or key does not exist, or its value is invalid.
        """
        above, faults = parse_overrides(len(self), {key: tables.Value(value, caller())})
        return _require_valid(build(merge(above, self.draft()), self.name, self._author), faults)

    def to_toml(self) -> str:
        """Return the chain as a TOML spec, which ``Chain.from_toml`` reads back."""
        return stages_to_toml(recipe.parts.values() for recipe in self.recipes)

    @classmethod
    def from_toml(cls, text: str, name: str = "chain.toml") -> Chain:
        """Return the chain that the text of a spec defines.

        Args:
            text: the spec.
            name: the file name given in messages.

        Raises:
            SpecError: every fault of the text, or the spec defines a single recipe.
        """
        config = finding.find_text(text, name)
        if isinstance(config, tables.RawConfig):
            raise SpecError([Fault("G2-108", name, "stage", "missing; this is one recipe")])
        return _require_valid(build(config, ""), [])

    @classmethod
    def load(cls, spec: str | os.PathLike[str], settings: Iterable[str] = ()) -> Chain:
        """Return the chain of a .toml file, of ``module:name``, or of the library.

        Args:
            spec: the chain, as on the command line.
            settings: overrides, ``stage.N.table.key=value``.

        Raises:
            SpecError: every fault of the spec, or it defines a single recipe.
        """
        from gpt2dsl.chain import specs  # noqa: PLC0415  # specs imports this module

        spec = os.fspath(spec)
        recipe = specs.load(spec, settings)
        if isinstance(recipe, Chain):
            return recipe
        raise SpecError([Fault("G2-108", "", spec, "is one recipe, where a chain is expected")])

    def draft(self) -> tables.ChainDrafts:
        """Return the values of the stages with the origin of each."""
        return tables.ChainDrafts(tuple(recipe.draft() for recipe in self.recipes), name=self.name)

    def why(self) -> list[tuple[str, Any, str]]:
        """Return the rows of ``Recipe.why`` of all stages: ``stage.1.optim.lr``."""
        return [
            (f"stage.{number}.{key}", value, origin)
            for number, recipe in enumerate(self.recipes, 1)
            for key, value, origin in recipe.why()
        ]

    def plan(self, *, prepare: bool = False) -> ChainPlan:
        """Return the plan: the stages to run and those that are up to date; without MindSpore.

        Args:
            prepare: as in ``Recipe.plan``, for the stages whose weights exist.

        Raises:
            SpecError: every fault of the recipes.
        """
        from gpt2dsl.chain.plan import make  # noqa: PLC0415  # a chain is built without planning

        return make(self, prepare=prepare)

    def faults(self) -> tuple[Fault, ...]:
        """Return every fault of the complete recipes and of the inputs that they name."""
        from gpt2dsl.chain.plan import faults  # noqa: PLC0415  # as above

        return faults(self)


def build(
    drafts: tables.ChainDrafts, name: str, author: str = ""
) -> tuple[Chain, tuple[Fault, ...]]:
    """Build a chain of the valid values of drafts; return it with every fault."""
    stages = [structured(draft, "") for draft in drafts.drafts]
    faults = [at(number, fault) for number, (_, wrong) in enumerate(stages, 1) for fault in wrong]
    chain = Chain(*(recipe for recipe, _ in stages), name=name, author=author)
    return chain, (*drafts.faults, *faults)


def _stage(recipe: Recipe) -> str:
    """Return the code of a stage after the first, where a single part needs no brackets."""
    parts = list(recipe.parts.values())
    return repr(parts[0]) if len(parts) == 1 else f"({recipe!r})"


GIVING = ("task", "model", "classifier", "lora", "data")
"""Tables that decide which weights and tokenizer a stage gives to later ones."""


def at(number: int, fault: Fault) -> Fault:
    """Return a fault of a stage's recipe with the key that it has in the chain."""
    compared = [f"stage.{number}.{key}" for key in fault.compared]
    if any(key.startswith(("model", "task.source")) for key in fault.compared):
        compared += [f"stage.{n}.{table}" for n in range(1, number) for table in GIVING]
    key = f"stage.{number}.{fault.key}" if fault.key else ""
    return attrs.evolve(fault, key=key, compared=tuple(compared))


def parse_overrides(
    count: int, values: Mapping[str, tables.Value]
) -> tuple[tables.ChainDrafts, list[Fault]]:
    """Parse ``stage.2.optim.lr`` overrides into one draft per stage.

    ``runtime.output`` applies to every stage.
    """
    by_stage: list[dict[str, tables.Value]] = [{} for _ in range(count)]
    faults = []
    for key, value in values.items():
        match = _KEY.fullmatch(key)
        if match and 1 <= int(match[1]) <= count:
            by_stage[int(match[1]) - 1][match[2]] = value
        elif key.startswith(f"{read.SHARED_TABLE}."):
            for stage in by_stage:
                stage[key] = value
        else:
            message = f"expected stage.N.table.key, N from 1 to {count}, or {read.SHARED_TABLE}.key"
            faults.append(Fault("G2-102", value.origin, key, message))
    return tables.ChainDrafts(tuple(map(read.values, by_stage))), faults


def merge(above: tables.ChainDrafts, below: tables.ChainDrafts) -> tables.ChainDrafts:
    """Merge two drafts stage by stage; the values of ``above`` take precedence."""
    pairs = zip(above.drafts, below.drafts, strict=True)
    return tables.ChainDrafts(tuple(upper.over(lower) for upper, lower in pairs), below.faults)


def _require_valid(built: tuple[Chain, tuple[Fault, ...]], faults: list[Fault]) -> Chain:
    chain, wrong = built
    if wrong or faults:
        raise SpecError([*faults, *wrong])
    return chain
