"""Parts of a recipe, completed by defaults."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import attrs

from gpt2dsl.parts.base import Part
from gpt2dsl.parts.classifier import Classifier
from gpt2dsl.parts.data import Data
from gpt2dsl.parts.generation import Generation
from gpt2dsl.parts.lora import LoRA
from gpt2dsl.parts.model import DROPOUT, Model
from gpt2dsl.parts.optim import Optim
from gpt2dsl.parts.parallel import Parallel
from gpt2dsl.parts.precision import Precision
from gpt2dsl.parts.runtime import Runtime
from gpt2dsl.parts.schedule import Schedule
from gpt2dsl.parts.task import Task
from gpt2dsl.parts.train import Train

NOT_IDENTITY = ("parallel", "runtime")
"""Tables that decide how and where to run; they leave the result the same."""

NOT_DIGESTED = ("save_every", "keep")
"""Keys of ``[train]`` that decide which checkpoints are kept: a stopped run resumes even after they
have changed."""


@attrs.frozen(kw_only=True)
class Parts:
    """One part of each kind; ``task``, ``lora`` and ``classifier`` may be absent."""

    model: Model = attrs.field(factory=Model)
    classifier: Classifier | None = None
    lora: LoRA | None = None
    parallel: Parallel = attrs.field(factory=Parallel)
    data: Data = attrs.field(factory=Data)
    train: Train = attrs.field(factory=Train)
    optim: Optim = attrs.field(factory=Optim)
    schedule: Schedule = attrs.field(factory=Schedule)
    precision: Precision = attrs.field(factory=Precision)
    generation: Generation = attrs.field(factory=Generation)
    runtime: Runtime = attrs.field(factory=Runtime)
    task: Task | None = None

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Parts:
        """Return the parts of a recipe, completed by parts whose origin is ``default``."""
        return cls(**{part.table: part for part in parts})  # type: ignore[arg-type]

    def __iter__(self) -> Any:
        """Return the present parts in the order of the tables."""
        return (value for field in attrs.fields(Parts) if (value := getattr(self, field.name)))

    @property
    def trains(self) -> bool:
        return self.task is not None and self.task.trains

    @property
    def converts(self) -> bool:
        """Whether the task turns a source into a target."""
        return self.task is not None and self.task.converts

    @property
    def reads_rows(self) -> bool:
        """Whether the task reads rows of data."""
        return self.task is not None and bool(self.task.data_keys)

    def value(self, key: str) -> Any:
        """Return the value of ``table.field``."""
        table, _, field = key.partition(".")
        return getattr(getattr(self, table), field)

    @property
    def is_new(self) -> bool:
        """Whether the weights are new, unless an earlier stage of a chain provides some."""
        named = self.model.weights
        from_scratch = self.task is not None and self.task.from_scratch
        return named == "random" or (named == "auto" and from_scratch)

    def origin(self, key: str) -> str:
        """Return the origin of ``table.field``: its line, or ``default``."""
        table, _, field = key.partition(".")
        part: Part | None = getattr(self, table)
        return part.why(field) if part else "default"

    def why(self) -> list[tuple[str, Any, str]]:
        """Return key, value and origin of each field: default, ``x.toml:12``, ``x.py:8``, --set."""
        return [
            (f"{part.table}.{field}", getattr(part, field), part.why(field))
            for part in self
            for field in part.rules()
        ]

    def identity(self) -> dict[str, dict[str, object]]:
        """Return everything that decides the result: fields of parts by table."""
        tables = {
            part.table: {
                field.name: _plain(value)
                for field in part.fields()
                if field.name not in part.unidentified
                and (
                    (value := getattr(part, field.name)) != field.default
                    or field.name not in part.added
                )
            }
            for part in self
            if part.table not in NOT_IDENTITY
        }
        tables["model"]["size"] = self.model.canonical_size
        if self.is_new and self.model.dropout is None:
            tables["model"]["dropout"] = DROPOUT
        tables["train"]["epochs"] = None if self.train.steps else self.train.passes
        if self.train.resume == "never":  # its initial weights are those of auto
            tables["train"]["resume"] = "auto"
        if self.task:
            tables["task"]["kind"] = self.task.kind
        return tables

    def digest(self) -> str:
        """Return the SHA-256 of the identity without ``NOT_DIGESTED``.

        Equal recipes have equal digests, whatever the order of their parts.
        """
        identity = self.identity()
        identity["train"] |= {key: _plain(getattr(Train(), key)) for key in NOT_DIGESTED}
        return _digest(identity)

    def earlier_digest(self) -> str:
        """Return the digest that named directories of runs before 0.2."""
        identity = self.identity()
        for part in self:
            table = identity.get(part.table, {})
            for name in table.keys() & part.rules().keys():
                if isinstance(value := getattr(part, name), dict | tuple):
                    table[name] = value  # digests before 0.2 differ for 16.0 and 16
        return _digest(identity)


def _digest(identity: dict[str, dict[str, object]]) -> str:
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(value: object) -> object:
    """Return a value in a canonical JSON form, equal for equal values such as 1 and 1.0."""
    if isinstance(value, Part):
        return {name: _plain(getattr(value, name)) for name in value.rules()}
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, dict):  # the first matching pattern counts: order matters
        pairs = tuple((key, _plain(item)) for key, item in value.items())
        return dict(pairs) if list(pairs) == sorted(pairs) else pairs
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return int(value) if value == int(value) else value
