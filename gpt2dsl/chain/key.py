"""The key of a stage: its identity, and the key of the stage whose weights it takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs

from gpt2dsl.identity.identity import PENDING, Identity
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.identify import KEEPING, WEIGHTS, identity_of
from gpt2dsl.plan.plan import Plan


@attrs.frozen(kw_only=True)
class Key:
    """Everything that decides the result of a stage.

    Attributes:
        identity: of its recipe, before it is said which weights it takes.
        taken: the digest of the key of the stage whose weights it takes; "" where it takes none.
    """

    identity: Identity
    taken: str

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        document = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(document.encode()).hexdigest()

    def changes(self, earlier: Key) -> list[str]:
        """Return the entries that have changed, in words."""
        words = [str(difference) for difference in self.identity.differences(earlier.identity)]
        pending = (key for key, digest in self.identity.contents.items() if digest == PENDING)
        return [*words, *(f"the contents of {key}, digest pending" for key in pending)]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**self.identity.to_json(), "taken": self.taken}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Key:
        """Return the key that ``to_json`` wrote, or a release before 0.2.

        Raises:
            ValueError: it is none.
        """
        contents = document.get("contents", document.get("inputs", {}))
        dropped = {*contents, *KEEPING}
        values = {key: value for key, value in document["values"].items() if key not in dropped}
        identity = Identity.from_json({"values": values, "contents": contents})
        return cls(identity=identity, taken=document["taken"])


def key_of(parts: Parts, plan: Plan, taken: str, *, compute: bool) -> Key:
    """Return what decides the result of a stage.

    Args:
        parts: its recipe's, before it is said which weights it takes.
        plan: of it.
        taken: as in ``Key``.
        compute: whether contents that take long to read are read.
    """
    tokenizer_is_taken = taken and parts.data.tokenizer == "auto"
    left_out = {*(WEIGHTS if taken else ()), *(["data.tokenizer"] if tokenizer_is_taken else ())}
    inputs = [read for read in plan.inputs if read.key not in left_out]
    identity = identity_of(parts, inputs, plan.network.looked, compute=compute)
    if taken:  # A dropout that is not said is that of the weights.
        values = {**identity.values, "model.dropout": parts.model.dropout}
        identity = attrs.evolve(identity, values=values)
    return Key(identity=identity, taken=taken)
