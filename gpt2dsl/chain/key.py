"""The cache key of a stage: its identity and the key of the stage whose weights it takes."""

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
class StageKey:
    """Everything that determines the result of a stage.

    Attributes:
        identity: the identity of its recipe, before the weights of another stage are filled in.
        taken: the digest of the key of the stage whose weights it takes; "" where it takes none.
    """

    identity: Identity
    taken: str

    @property
    def digest(self) -> str:
        document = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(document.encode()).hexdigest()

    def changes(self, earlier: StageKey) -> list[str]:
        """Return a description of each entry that differs from an earlier key."""
        words = [str(difference) for difference in self.identity.differences(earlier.identity)]
        pending = (key for key, digest in self.identity.contents.items() if digest == PENDING)
        return [*words, *(f"the contents of {key}, digest pending" for key in pending)]

    def to_json(self) -> dict[str, Any]:
        return {**self.identity.to_json(), "taken": self.taken}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> StageKey:
        """Return the key that ``to_json`` wrote, in this release or one before 0.2.

        Raises:
            ValueError: the document is not a key.
        """
        contents = document.get("contents", document.get("inputs", {}))
        dropped = {*contents, *KEEPING}
        values = {key: value for key, value in document["values"].items() if key not in dropped}
        identity = Identity.from_json({"values": values, "contents": contents})
        return cls(identity=identity, taken=document["taken"])


def key_of(parts: Parts, plan: Plan, taken: str, *, compute: bool) -> StageKey:
    """Return the key of a stage, from its parts before the weights of another are filled in.

    ``compute`` hashes large inputs too, instead of leaving their digests pending.
    """
    tokenizer_is_taken = taken and parts.data.tokenizer == "auto"
    left_out = {*(WEIGHTS if taken else ()), *(["data.tokenizer"] if tokenizer_is_taken else ())}
    inputs = [read for read in plan.inputs if read.key not in left_out]
    identity = identity_of(parts, inputs, plan.network, compute=compute)
    if taken:  # An unset dropout defaults to that of the weights.
        values = {**identity.values, "model.dropout": parts.model.dropout}
        identity = attrs.evolve(identity, values=values)
    return StageKey(identity=identity, taken=taken)
