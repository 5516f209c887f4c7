"""What a part is: a frozen attrs object that knows where each of its values was written."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import attrs
from typing_extensions import Self, dataclass_transform

from gpt2dsl import notebook
from gpt2dsl.errors import Fault, SpecError, did_you_mean, file_and_line, nearest
from gpt2dsl.notebook import ShownAsCode
from gpt2dsl.parts import rules
from gpt2dsl.parts.rules import RULE, Rule

if TYPE_CHECKING:
    from gpt2dsl.chain.chain import Chain
    from gpt2dsl.recipe import Recipe

DEFAULT = "default"
FEW = 10
"""Keys of a part that an unknown one is answered with."""
PACKAGE = str(Path(__file__).parents[1])
"""The folder of this package: frames in it are not a user's."""


class Part(ShownAsCode):
    """One word of the vocabulary.

    Class attributes:
        table: the name of its TOML table.
        exclusive: pairs of fields of which only one may be given.
        deferred: fields that what is read decides where nobody says them, so that even
            a default that is said means something.
        added: fields that later versions added; digests leave them out at their default, so that
            those of earlier versions hold.
        unidentified: fields that say how and where, and leave the result as it is.
        refused: words that no spec has, and what to do instead.

    Attributes:
        origin: where the part was written, ``recipe.py:8`` or ``file.toml:3``.
        origins: the same for each field that was written; the others have their default.
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
        return tuple(attrs.fields(cls))  # type: ignore[arg-type]  # the decorator makes it attrs

    @classmethod
    def rules(cls) -> dict[str, Rule]:
        """Return each field's name and what it accepts."""
        return {field.name: field.metadata[RULE] for field in cls.fields()}

    def given(self) -> dict[str, Any]:
        """Return the fields that were written, and their values."""
        return {name: getattr(self, name) for name in self.rules() if name in self.origins}

    def changed(self) -> dict[str, Any]:
        """Return the fields whose value is not the default, and their values.

        A deferred field that was written counts too: its default is not what leaving it out means.
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
        """Return where a field's value came from."""
        return self.origins.get(field, DEFAULT)

    def written(self, origin: str, origins: Mapping[str, str]) -> Part:
        """Return the same part, said to be written elsewhere."""
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "origins", dict(origins))
        return self

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.changed().items())
        return f"{self._called()}({inside})"

    @classmethod
    def _called(cls) -> str:
        """Return the name that code builds it by."""
        return cls.__name__

    if TYPE_CHECKING:  # what stands above the parts gives them `|` (recipe) and `>>` (chain)

        def __or__(self, other: Part | Recipe) -> Recipe: ...

        def __rshift__(self, other: Part | Recipe | Chain) -> Chain: ...


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
    """Make a class a part: frozen, keyword-only, checked as a whole, aware of its origin."""
    made = attrs.frozen(kw_only=True, slots=False, repr=False)(cls)
    attrs_init: Callable[..., None] = made.__init__

    @functools.wraps(attrs_init)
    def __init__(self: P, **given: Any) -> None:  # noqa: N807
        origin = caller()
        if faults := check(made, given, dict.fromkeys(given, origin), origin):
            raise SpecError([_in_words_of_code(fault) for fault in faults])
        attrs_init(self, **given)
        self.written(origin, dict.fromkeys(given, origin))

    made.__init__ = __init__  # type: ignore[assignment]  # keeps the signature that attrs gave it
    return made


def check(
    cls: type[Part], values: Mapping[str, object], origins: Mapping[str, str], origin: str
) -> list[Fault]:
    """Return every fault of the values of one part.

    Args:
        cls: the part's class.
        values: field → value, as written.
        origins: field → where it was written.
        origin: where the part was written, for what is missing.
    """
    accepted = cls.rules()
    faults = [
        Fault(
            "G2-101",
            origins[name],
            f"{cls.table}.{name}",
            cls.refused.get(name) or f"unknown key{did_you_mean(name, accepted) or _few(accepted)}",
            "" if name in cls.refused else nearest(name, accepted),
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
    for one, other in cls.exclusive:
        if values.get(one) is not None and values.get(other) is not None:
            first, last = sorted((one, other), key=lambda key: file_and_line(origins[key]))
            message = f"expected {one} or {other}, found both ({first} at {origins[first]})"
            faults.append(Fault("G2-105", origins[last], f"{cls.table}.{last}", message))
    return faults


def _in_words_of_code(fault: Fault) -> Fault:
    """A fault whose unknown key is one of another part says which, by the name of its class."""
    if fault.code != "G2-101" or "did you mean" in fault.message:
        return fault
    key = fault.key.partition(".")[2]
    names = " and ".join(one.__name__ for one in owners(key))
    return attrs.evolve(fault, message=f"unknown key; {names} has {key}") if names else fault


def owners(key: str) -> list[type[Part]]:
    """The parts that have a key, in the order of the tables; tasks apart, whose keys differ."""
    from gpt2dsl.parts import TABLES  # noqa: PLC0415  # it is made of the parts

    return [one for name, one in TABLES.items() if name != "task" and key in one.rules()]


def _few(accepted: Mapping[str, Rule]) -> str:
    """Return all keys, where they are few enough to be read."""
    return f"; it has {', '.join(accepted)}" if len(accepted) <= FEW else ""


def caller() -> str:
    """Return the place of the code outside this package that says a value: ``file.py:line``."""
    frame = sys._getframe(1)  # noqa: SLF001  # inspect.stack reads source files: slow
    while frame.f_back and frame.f_code.co_filename.startswith((PACKAGE, "<attrs generated")):
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    return notebook.place(file, line) or f"{_shown(file)}:{line}"


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
