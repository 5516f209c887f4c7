"""Rules for what may differ between a checkpoint and the run that resumes from it."""

from __future__ import annotations

from typing import Literal

import attrs

Kind = Literal["equal", "differ", "no effect"]


@attrs.frozen
class Rule:
    """Consequence of an entry that differs.

    Attributes:
        kind: equal: the run is refused; differ: it continues and reports it; no effect: ignored.
        words: explanation: for ``equal`` the reason or the remedy, for ``differ`` the
            consequence, for ``no effect`` the reason.
    """

    kind: Kind
    words: str


_ROWS = "rows would be left out or read twice"
_STATE = "the moments in the checkpoint belong to the other"
_NETWORK = "the checkpoint's tensors belong to the other network"

VALUES: dict[str, Rule] = {
    "data.format": Rule("equal", _ROWS),
    "data.tokenizer": Rule("no effect", "the vocabulary's contents count"),
    "data.vocab": Rule("no effect", "the vocabulary's contents count"),
    "model.dropout": Rule("differ", "it holds from the next step on"),
    "lora.dropout": Rule("differ", "it holds from the next step on"),
    "model.weights": Rule("no effect", "the contents of the weights count"),
    "model.allow_missing": Rule("no effect", "the checkpoint lacks nothing"),
    "task.data": Rule("no effect", "its contents count"),
    "task.eval_data": Rule("no effect", "its contents count"),
    "task.template": Rule("no effect", "its contents count"),
    "task.kind": Rule("differ", "the checkpoint's weights and moments are kept"),
    "train.batch_size": Rule("equal", _ROWS),
    "train.seq_length": Rule("equal", _ROWS),
    "train.seed": Rule("equal", _ROWS),
    "train.epochs": Rule("differ", "the schedule counts the new number of steps"),
    "train.steps": Rule("differ", "the schedule counts the new number of steps"),
    "train.clip": Rule("differ", "it holds from the next step on"),
    "train.evaluate_every": Rule("differ", "it holds from the next step on"),
    "train.save_every": Rule("no effect", "the weights are the same"),
    "train.keep": Rule("no effect", "the weights are the same"),
    "train.best": Rule("differ", "it holds from the next evaluation on"),
    "train.patience": Rule("differ", "it counts the evaluations that were kept"),
    "train.resume": Rule("no effect", "it says where to go on"),
    "optim.name": Rule("equal", _STATE),
    "precision.params": Rule("equal", "the checkpoint's tensors are of the other type"),
}
"""Key of the recipe → its rule; other keys have the rule of their part."""

PARTS: dict[str, Rule] = {
    "model": Rule("equal", _NETWORK),
    "lora": Rule("equal", _NETWORK),
    "classifier": Rule("equal", _NETWORK),
    "data": Rule("equal", _ROWS),
    "optim": Rule("differ", "it holds from the next step on"),
    "schedule": Rule("differ", "it holds from the next step on"),
    "precision": Rule("differ", "it holds from the next step on"),
    "generation": Rule("differ", "it holds for the samples that are still to be made"),
    "train": Rule("equal", "it decides the steps"),
    "task": Rule("equal", "it decides what is done"),
}
"""Part of the recipe → rule of its other keys."""

CONTENTS: dict[str, Rule] = {
    "task.eval_data": Rule("differ", "evaluations and samples of the other text are dropped"),
    "train.resume": Rule("equal", "the run began at the other; another runtime.output begins anew"),
}
"""Key of an input → rule of its contents."""

OTHER_CONTENTS = Rule("equal", "put back what was there")
"""Rule of the contents of every other input."""


def rule_of(key: str, *, is_content: bool) -> Rule:
    """Return the rule of an entry."""
    if is_content:
        return CONTENTS.get(key, OTHER_CONTENTS)
    return VALUES.get(key) or PARTS.get(key.partition(".")[0], PARTS["train"])
