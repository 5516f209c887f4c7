"""Rules for what may differ between a checkpoint and the run that resumes from it."""

from __future__ import annotations

from typing import Literal

import attrs

Kind = Literal["equal", "differ", "no effect"]


@attrs.frozen
class ResumeRule:
    """Consequence of an entry that differs.

    ``equal`` refuses the run, for the reason in ``words``; ``differ`` continues and reports the
    consequence; ``no effect`` ignores it.
    """

    kind: Kind
    words: str


_ROWS = "rows would be left out or read twice"
_STATE = "the moments in the checkpoint belong to the other"
_NETWORK = "the checkpoint's tensors belong to the other network"

VALUES: dict[str, ResumeRule] = {
    "data.format": ResumeRule("equal", _ROWS),
    "data.tokenizer": ResumeRule("no effect", "the vocabulary's contents count"),
    "data.vocab": ResumeRule("no effect", "the vocabulary's contents count"),
    "model.dropout": ResumeRule("differ", "it applies from the next step on"),
    "lora.dropout": ResumeRule("differ", "it applies from the next step on"),
    "model.weights": ResumeRule("no effect", "the contents of the weights count"),
    "model.allow_missing": ResumeRule("no effect", "the checkpoint lacks nothing"),
    "task.data": ResumeRule("no effect", "its contents count"),
    "task.eval_data": ResumeRule("no effect", "its contents count"),
    "task.template": ResumeRule("no effect", "its contents count"),
    "task.kind": ResumeRule("differ", "the checkpoint's weights and moments are kept"),
    "train.batch_size": ResumeRule("equal", _ROWS),
    "train.seq_length": ResumeRule("equal", _ROWS),
    "train.seed": ResumeRule("equal", _ROWS),
    "train.epochs": ResumeRule("differ", "the schedule counts the new number of steps"),
    "train.steps": ResumeRule("differ", "the schedule counts the new number of steps"),
    "train.clip": ResumeRule("differ", "it applies from the next step on"),
    "train.evaluate_every": ResumeRule("differ", "it applies from the next step on"),
    "train.save_every": ResumeRule("no effect", "the weights are the same"),
    "train.keep": ResumeRule("no effect", "the weights are the same"),
    "train.best": ResumeRule("differ", "it applies from the next evaluation on"),
    "train.patience": ResumeRule("differ", "it counts the evaluations that were kept"),
    "train.resume": ResumeRule("no effect", "it says where to resume"),
    "optim.name": ResumeRule("equal", _STATE),
    "precision.params": ResumeRule("equal", "the checkpoint's tensors are of the other type"),
}
"""Key of the recipe → its rule; other keys have the rule of their part."""

PARTS: dict[str, ResumeRule] = {
    "model": ResumeRule("equal", _NETWORK),
    "lora": ResumeRule("equal", _NETWORK),
    "classifier": ResumeRule("equal", _NETWORK),
    "data": ResumeRule("equal", _ROWS),
    "optim": ResumeRule("differ", "it applies from the next step on"),
    "schedule": ResumeRule("differ", "it applies from the next step on"),
    "precision": ResumeRule("differ", "it applies from the next step on"),
    "generation": ResumeRule("differ", "it applies to the samples yet to be generated"),
    "train": ResumeRule("equal", "it determines the steps"),
    "task": ResumeRule("equal", "it determines what is done"),
}
"""Part of the recipe → rule of its other keys."""

CONTENTS: dict[str, ResumeRule] = {
    "task.eval_data": ResumeRule("differ", "evaluations and samples of the other text are dropped"),
    "train.resume": ResumeRule(
        "equal", "the run began at the other; another runtime.output begins anew"
    ),
}
"""Key of an input → rule of its contents."""

OTHER_CONTENTS = ResumeRule("equal", "put back what was there")
"""Rule of the contents of every other input."""


def rule_of(key: str, *, is_content: bool) -> ResumeRule:
    if is_content:
        return CONTENTS.get(key, OTHER_CONTENTS)
    return VALUES.get(key) or PARTS.get(key.partition(".")[0], PARTS["train"])
