"""The directory of a run: named after its recipe, and found again where its inputs have moved."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable
from pathlib import Path

import attrs

from gpt2dsl.errors import InputError
from gpt2dsl.identity.identity import Identity
from gpt2dsl.parts.bundle import Parts

_PLAN = "plan.json"
_TOKENIZER = "data.tokenizer"


def directory_of(
    parts: Parts, name: str, identity: Identity, complete: Callable[[], Identity] | None
) -> Path:
    """Return the directory of a run.

    One that an earlier version named goes on where it is. So does a training whose inputs have
    other names now and the same contents: names decide nothing.

    Args:
        parts: the recipe's.
        name: of the run.
        identity: what decides its result; contents that take long to read may be pending.
        complete: gives all of them; None where a plan is not to wait for them.
    """
    output = Path(parts.runtime.output)
    own, before = (
        output / f"{name}-{digest[:8]}" for digest in (parts.digest(), parts.earlier_digest())
    )
    if own.is_dir():
        return own
    if before.is_dir():
        return before
    for folder in sorted(output.glob(f"{glob.escape(name)}-{'?' * 8}")) if parts.trains else []:
        known = recorded(folder)
        if known is None or any(identity.differences(known)):
            continue
        if identity.is_pending and complete:
            identity = complete()
        if identity == known:
            return folder
    return own


def recorded(folder: Path) -> Identity | None:
    """Return the identity of a run that has a checkpoint; None where its records disagree.

    A run that was refused has left its plan, and the checkpoint of the one before it.
    """
    from gpt2dsl.weights import store, training_state  # noqa: PLC0415  # NumPy: only where runs are

    steps = store.steps(folder / "checkpoints")
    try:
        plan = Identity.from_json(json.loads((folder / _PLAN).read_bytes())["identity"])
        state = training_state.read_state(steps[-1][1])
        checkpoint = Identity.from_json(state["identity"])
    except (OSError, ValueError, KeyError, TypeError, IndexError, InputError):
        return None
    # The vocabulary that was made or came with weights is in the checkpoint's alone.
    return plan if _without(plan) == _without(checkpoint) else None


def _without(identity: Identity) -> Identity:
    """Return an identity without the tokenizer."""
    return attrs.evolve(
        identity,
        values={key: value for key, value in identity.values.items() if key != _TOKENIZER},
        contents={key: text for key, text in identity.contents.items() if key != _TOKENIZER},
    )
