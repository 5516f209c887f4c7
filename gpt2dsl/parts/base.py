"""Base of parts: frozen attrs objects that know where each of their values was written."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

import attrs
from typing_extensions import Self, dataclass_transform

from gpt2dsl import notebook
from gpt2dsl.errors import Fault, SpecError, did_you_mean, file_and_line, nearest
from gpt2dsl.notebook import ShownAsCode
from gpt2dsl.parts import rules, trainer
from gpt2dsl.parts.rules import RULE, FieldRule
from gpt2dsl.parts.values import plain

if TYPE_CHECKING:
    from gpt2dsl.recipe import Recipe

DEFAULT = "default"
FEW = 10
"""Most keys of a part that the message on an unknown key lists."""
BINDS = "`>>` binds tighter than `|`: put each recipe in brackets, (a | b) >> (c | d)"
PACKAGE = str(Path(__file__).parents[1])
"""Folder of this package, whose frames are not the user's."""


class Part(ShownAsCode):
    """A part of a recipe: one table of a spec.

    Class attributes:
        table: name of its TOML table.
        exclusive: pairs of fields of which only one may be set.
        deferred: fields whose value comes from the inputs unless it is set, so that setting them
            to their default has a meaning.
        added: fields of later versions, left out of digests at their default, so that digests of
            earlier versions stay valid.
        unidentified: fields that decide how and where to run; they leave the result the same.
        refused: keys that no spec may have, with advice.

    Attributes:
        origin: where the part was written, ``recipe.py:8`` or ``file.toml:3``.
        origins: the same for each field that was set; the others have their default.
    """

    table: ClassVar[str]
    exclusive: ClassVar[tuple[tuple[str, str], ...]] = ()
    deferred: ClassVar[frozenset[str]] = frozenset()
    added: ClassVar[frozenset[str]] = frozenset()
    unidentified: ClassVar[frozenset[str]] = frozenset()
    refused: ClassVar[Mapping[str, str]] = {}
    origin: str
    origins: Mapping[str, str]

    @classmethod
    def fields(cls) -> tuple[attrs.Attribute[Any], ...]:
        """Return the attrs fields."""
        return tuple(attrs.fields(cls))  # type: ignore[arg-type]  # @part makes it an attrs class

    @classmethod
    def rules(cls) -> dict[str, FieldRule]:
        """Return the rule of each field by name."""
        return {field.name: field.metadata[RULE] for field in cls.fields()}

    def given(self) -> dict[str, Any]:
        """Return the fields that were set, with their values."""
        return {name: getattr(self, name) for name in self.rules() if name in self.origins}

    def changed(self) -> dict[str, Any]:
        """Return the fields whose value is not the default, with their values.

        A deferred field that was set counts, too: its default differs from leaving it out.
        """
        return {
            field.name: value
            for field in self.fields()
            if (value := getattr(self, field.name)) != field.default
            or (value is not None and field.name in self.deferred and field.name in self.origins)
        }

    def evolve(self, **changes: Any) -> Self:
        """Return the part with some values changed."""
        return type(self)(**{**self.given(), **changes})

    def why(self, field: str) -> str:
        """Return the origin of a field's value."""
        return self.origins.get(field, DEFAULT)

    def written(self, origin: str, origins: Mapping[str, str]) -> Part:
        """Set the origin of the part and of its fields, and return the part."""
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "origins", dict(origins))
        return self

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.changed().items())
        return f"{self._called()}({inside})"

    @classmethod
    def _called(cls) -> str:
        """Return the name of the part in Python code."""
        return cls.__name__

    def __or__(self, other: Part | Recipe) -> Recipe:
        from gpt2dsl.recipe import Recipe  # noqa: PLC0415  # the one layer above that parts name

        return Recipe(self).__or__(other)

    def __rshift__(self, _: object) -> NoReturn:
        raise TypeError(BINDS)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Raise AttributeError; where recipes have the attribute, name the part's recipe."""
            from gpt2dsl.recipe import Recipe  # noqa: PLC0415  # as above

            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            if not name.startswith("_") and (name == "run" or hasattr(Recipe, name)):
                has_it = "plan().run" if name == "run" else name
                recipe = f"Recipe({self._called()}(...))"
                message += f": a part is no recipe yet; {recipe}.{has_it} has it"
            raise AttributeError(message, name=name, obj=self)


P = TypeVar("P", bound=Part)


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    field_specifiers=(
        rules.integer,
        rules.number,
        rules.steps_or_share,
        rules.flag,
        rules.flag_or,
        rules.choice,
        rules.text,
        rules.texts,
        rules.whole_numbers,
        rules.sequences,
        rules.weighted_sequences,
        rules.start_and_factor,
        rules.labels,
        rules.patterns,
        rules.nested,
    ),
)
def part(cls: type[P]) -> type[P]:
    """Decorate a class as a part: frozen, keyword-only, validated as a whole, with origins."""
    frozen_cls = attrs.frozen(kw_only=True, slots=False, repr=False)(cls)
    attrs_init: Callable[..., None] = frozen_cls.__init__

    @functools.wraps(attrs_init)
    def __init__(self: P, **given: Any) -> None:  # noqa: N807
        origin = caller()
        given = {name: plain(value) for name, value in given.items()}
        if faults := check(frozen_cls, given, dict.fromkeys(given, origin), origin):
            raise SpecError([_in_words_of_code(fault) for fault in faults])
        attrs_init(self, **given)
        self.written(origin, dict.fromkeys(given, origin))

    frozen_cls.__init__ = __init__  # type: ignore[assignment]  # with the signature of attrs
    return frozen_cls


def check(
    cls: type[Part], values: Mapping[str, object], origins: Mapping[str, str], origin: str
) -> list[Fault]:
    """Return all faults of the values of a part, whose ``origin`` is that of missing fields."""
    accepted = cls.rules()
    faults = [
        Fault(
            "G2-101",
            origins[name],
            f"{cls.table}.{name}",
            cls.refused.get(name) or f"unknown key{_hint(name, accepted)}",
            "" if name in cls.refused else meant_by(name, cls.table, accepted),
        )
        for name in values
        if name not in accepted
    ]
    for name, rule in accepted.items():
        if name not in values:
            if rule.required:
                faults.append(
                    Fault(
                        "G2-103",
                        origin,
                        f"{cls.table}.{name}",
                        f"missing; expected {rule.expected}",
                    )
                )
        elif problem := rule.problem(values[name]):
            faults.append(Fault(problem[0], origins[name], f"{cls.table}.{name}", problem[1]))
    for field, rival in cls.exclusive:
        if values.get(field) is not None and values.get(rival) is not None:
            first, last = sorted((field, rival), key=lambda key: file_and_line(origins[key]))
            message = f"expected {field} or {rival}, found both ({first} at {origins[first]})"
            faults.append(Fault("G2-105", origins[last], f"{cls.table}.{last}", message))
    return faults


def _in_words_of_code(fault: Fault) -> Fault:
    """Return a fault, naming the classes of other parts that have its unknown key."""
    if fault.code != "G2-101" or fault.meant:
        return fault
    key = fault.key.partition(".")[2]
    names = " and ".join(cls.__name__ for cls in owners(key))
    return attrs.evolve(fault, message=f"unknown key; {names} has {key}") if names else fault


def owners(key: str) -> list[type[Part]]:
    """Return the classes that have a key, in the order of the tables, without tasks."""
    from gpt2dsl.parts import TABLES  # noqa: PLC0415  # a cycle: it imports the parts

    return [cls for name, cls in TABLES.items() if name != "task" and key in cls.rules()]


def meant_by(name: str, table: str, accepted: Iterable[str]) -> str:
    """Return the key of a table that an unknown one stands for, "" if none is known."""
    if trainer.hint(name) and not owners(name):
        return trainer.field(name, table)
    return nearest(name, accepted)


def _hint(name: str, accepted: Mapping[str, FieldRule]) -> str:
    of_trainer = "" if owners(name) else trainer.hint(name)
    return of_trainer or did_you_mean(name, accepted) or _few(accepted)


def _few(accepted: Mapping[str, FieldRule]) -> str:
    """Return a suffix with all keys, unless they are too many."""
    return f"; it has {', '.join(accepted)}" if len(accepted) <= FEW else ""


def caller() -> str:
    """Return ``file.py:line`` of the innermost frame outside this package."""
    frame = sys._getframe(1)  # noqa: SLF001  # inspect.stack is slow: it reads source files
    while frame.f_back and frame.f_code.co_filename.startswith((PACKAGE, "<attrs generated")):
        frame = frame.f_back
    return place(frame.f_code.co_filename, frame.f_lineno)


def place(file: str, line: int) -> str:
    """Return ``file.py:line`` of a line of the user's code, or its cell of a notebook."""
    return notebook.place(file, line) or f"{_shown(file)}:{line}"


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
