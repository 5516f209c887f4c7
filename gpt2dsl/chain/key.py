"""What decides the result of a stage: its recipe, the contents of its inputs, and its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data import cache
from gpt2dsl.data.form import Form
from gpt2dsl.data.source import File, Source
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.inputs import Input
from gpt2dsl.plan.plan import Plan

PENDING = "pending"
"""The digest of an input that would take long."""

_WEIGHTS = ("model.weights", "task.source")
_NOT_IDENTITY = ("runtime.rank_table", "task.target")
"""Inputs that say how and where, and leave the result as it is."""


@attrs.frozen(kw_only=True)
class Key:
    """What decides the result of a stage.

    Attributes:
        values: those of the recipe: ``optim.lr`` → 0.001.
        inputs: key → SHA-256 of what it names, or pending.
        taken: the digest of the key of the stage whose weights it takes; "" where it takes none.
    """

    values: Mapping[str, Any]
    inputs: Mapping[str, str]
    taken: str

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        document = json.dumps(attrs.asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(document.encode()).hexdigest()

    def changes(self, earlier: Key) -> list[str]:
        """What is not as it was, in words."""
        words = [
            f"{key} {_shown(earlier.values.get(key))} -> {_shown(self.values.get(key))}"
            for key in {**earlier.values, **self.values}
            if earlier.values.get(key) != self.values.get(key)
        ]
        for key in {**earlier.inputs, **self.inputs}:
            if earlier.inputs.get(key) != self.inputs.get(key):
                pending = ", sha256 pending" if self.inputs.get(key) == PENDING else ""
                words.append(f"the contents of {key}{pending}")
        return words


def key_of(parts: Parts, plan: Plan, taken: str, *, compute: bool) -> Key:
    """What decides the result of a stage.

    Args:
        parts: its recipe's, before it is said which weights it takes.
        plan: of it.
        taken: as in ``Key``.
        compute: digests that take long, too.
    """
    left_out = {*_NOT_IDENTITY, *(_WEIGHTS if taken else ())}
    digests = {
        one.key: one.digest or (_computed(one, plan, parts) if compute else PENDING)
        for one in plan.inputs
        if one.key not in left_out
    }
    values = {
        f"{table}.{name}": value
        for table, fields in parts.identity().items()
        for name, value in fields.items()
    }
    if taken:  # where it is not said it is that of the weights
        values["model.dropout"] = parts.model.dropout
    # through JSON, so that a key compares equal with one that was read
    plain = json.loads(json.dumps(values))
    return Key(values=plain, inputs=digests, taken=taken)


def _computed(one: Input, plan: Plan, parts: Parts) -> str:
    if one.state == "absent":
        return ""
    if one.key in ("task.data", "task.eval_data"):
        return Source.open(one.name, Form.of(parts.data)).digest()
    looked = plan.network.looked
    own = looked is not None and one.key in _WEIGHTS
    return _files(looked.path if looked and own else cache.expanded(one.name))


def _files(path: Path) -> str:
    """Of a file, or of those in a folder; "" where there are none."""
    found = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return Source(str(path), tuple(map(File.at, found))).digest() if found else ""


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
