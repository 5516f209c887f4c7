"""All parts of a recipe together, with defaults in the place of those that it leaves out."""

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
"""They say how and where, and leave the result as it is."""

NOT_DIGESTED = ("save_every", "keep")
"""Keys of ``[train]`` that say what is kept of a run on its way: one that was stopped goes on where
they have changed."""


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
        """Return the parts of a recipe, completed. Parts that are made here say ``default``."""
        return cls(**{part.table: part for part in parts})  # type: ignore[arg-type]

    def __iter__(self) -> Any:
        """Return the parts that are there, in the order of the tables."""
        return (value for field in attrs.fields(Parts) if (value := getattr(self, field.name)))

    @property
    def trains(self) -> bool:
        """Whether the task changes weights."""
        return self.task is not None and self.task.trains

    @property
    def is_new(self) -> bool:
        """Whether the weights are new ones, unless an earlier stage of a chain gives some."""
        named = self.model.weights
        starts = self.task is not None and self.task.kind == "pretrain"
        return named == "random" or (named == "auto" and starts)

    def origin(self, key: str) -> str:
        """Return where ``table.field`` was written: its own line, else ``default``."""
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
        """What decides the result: every field of every part that is not said to leave it."""
        found = {
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
        found["model"]["size"] = self.model.canonical_size
        if self.is_new and self.model.dropout is None:
            found["model"]["dropout"] = DROPOUT
        found["train"]["epochs"] = None if self.train.steps else self.train.passes
        if self.train.resume == "never":  # what it starts from is what auto starts from
            found["train"]["resume"] = "auto"
        if self.task:
            found["task"]["kind"] = self.task.kind
        return found

    def digest(self) -> str:
        """Return the SHA-256 of the identity, but for what is kept of a run on its way.

        Equal recipes have equal ones, whatever their order.
        """
        identity = self.identity()
        identity["train"] |= {key: _plain(getattr(Train(), key)) for key in NOT_DIGESTED}
        return _digest(identity)

    def earlier_digest(self) -> str:
        """Return the digest by which directories of runs were named before 0.2."""
        identity = self.identity()
        for part in self:
            table = identity.get(part.table, {})
            for name in table.keys() & part.rules().keys():
                if isinstance(value := getattr(part, name), dict | tuple):
                    table[name] = value  # 16.0 was another number than 16 in them
        return _digest(identity)


def _digest(identity: dict[str, dict[str, object]]) -> str:
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(value: object) -> object:
    """Return JSON's form of a value, in which equal ones look equal: 1 and 1.0 are one rate."""
    if isinstance(value, Part):
        return {name: _plain(getattr(value, name)) for name in value.rules()}
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, dict):  # of patterns the first match counts: their order is part of them
        pairs = tuple((key, _plain(item)) for key, item in value.items())
        return dict(pairs) if list(pairs) == sorted(pairs) else pairs
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return int(value) if value == int(value) else value
