"""Whether a training can go on from the checkpoint that its recipe names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2dsl.errors import InputError, RunError
from gpt2dsl.identity.identity import Difference, Identity, refusal
from gpt2dsl.parts import TABLES
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.batches import Batches
from gpt2dsl.plan.identify import identity_of
from gpt2dsl.plan.inputs import Input, refused

if TYPE_CHECKING:
    from gpt2dsl.plan.network import Network

KEY = "train.resume"
"""Key that names the checkpoint."""


def check(
    parts: Parts, network: Network, batches: Batches | None, read: Sequence[Input]
) -> list[Input]:
    """Return the inputs, with a checkpoint refused that the recipe can't go on from."""
    if not any(item.key == KEY and item.state == "present" for item in read):
        return list(read)
    identity = identity_of(parts, read, network, compute=False)
    return check_against(parts, identity, batches, read)


def check_against(
    parts: Parts, identity: Identity, batches: Batches | None, read: Sequence[Input]
) -> list[Input]:
    """Return the same as ``check`` for a known identity; pending contents are not compared."""
    unread = {item.key for item in read if item.state != "present"}
    steps = batches.steps if batches else None
    return [
        _checked(parts, identity, unread, steps, item)
        if item.key == KEY and item.state == "present"
        else item
        for item in read
    ]


def require_unchanged(directory: Path, identity: Identity, read: Sequence[Input]) -> None:
    """Refuse to go on in a run whose newest checkpoint has another identity, as far as is known.

    Raises:
        RunError: something that must be equal has changed since the checkpoint was written.
    """
    from gpt2dsl.weights import store, training_state  # noqa: PLC0415  # as below

    steps = store.steps(directory / "checkpoints")
    if not steps:
        return
    folder = steps[-1][1]
    unread = {item.key for item in read if item.state != "present"}
    try:
        differences = list(_differences(identity, training_state.read_state(folder), unread))
    except (InputError, ValueError):
        return  # the run passes over a damaged one
    if reasons := refusal(differences):
        raise RunError("G2-402", f"{folder}: {reasons}")


def _checked(
    parts: Parts, identity: Identity, unread: set[str], steps: int | None, item: Input
) -> Input:
    from gpt2dsl.weights import training_state  # noqa: PLC0415  # NumPy: only for checkpoints

    try:
        state = training_state.read_state(Path(item.name))
        differences = list(_differences(identity, state, unread))
    except InputError as error:
        return refused(parts, item.key, item.name, error)
    except ValueError as error:
        return refused(parts, item.key, item.name, InputError("G2-304", item.name, str(error)))
    message = refusal(differences) or _past(state, steps)
    if not message:
        return item
    return refused(
        parts, item.key, item.name, InputError("G2-316", item.name, message), tuple(TABLES)
    )


def _differences(
    identity: Identity, state: Mapping[str, Any], unread: set[str]
) -> Iterator[Difference]:
    """Yield how the identity has changed since the checkpoint, as far as the plan knows it.

    A run knows the vocabulary; and another run wrote the checkpoint that this one begins at.
    """
    if "identity" not in state:  # releases before 0.2: the run compares what they recorded
        return
    unknown = unread | {"data.tokenizer", KEY}
    for difference in identity.differences(Identity.from_json(state["identity"])):
        if not (difference.is_content and difference.key in unknown):
            yield difference


def _past(state: Mapping[str, Any], steps: int | None) -> str:
    """Return the refusal of a checkpoint past the last step; "" for any other."""
    step = state.get("step")
    if steps is None or not isinstance(step, int) or step <= steps:
        return ""
    return (
        f"it is at step {step:,}, past the {steps:,} steps of this recipe; raise train.steps or "
        "epochs"
    )
