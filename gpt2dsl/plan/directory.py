"""Directory of a run: named after its recipe, and found again after inputs were moved."""

from __future__ import annotations

import glob
import json
import shlex
from collections.abc import Callable, Iterator
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

    A run that an earlier version named keeps its directory. So does a training whose inputs have
    been renamed but have the same contents.

    Args:
        parts: the recipe's.
        name: name of the run.
        identity: identity of the run; contents that take long to read may be pending.
        complete: returns the complete identity; None where a plan should not wait for it.
    """
    output = Path(parts.runtime.output)
    current, earlier = (
        output / f"{name}-{digest[:8]}" for digest in (parts.digest(), parts.earlier_digest())
    )
    if current.is_dir():
        return current
    if earlier.is_dir():
        return earlier
    for folder in sorted(output.glob(f"{glob.escape(name)}-{'?' * 8}")) if parts.trains else []:
        known = recorded(folder)
        if known is None or any(identity.differences(known)):
            continue
        if identity.is_pending and complete:
            identity = complete()
        if identity == known:
            return folder
    return current


def notes_on_other_names(
    parts: Parts, identity: Identity, directory: Path, steps: int | None
) -> Iterator[str]:
    """Yield a note for each run of this training under another name, which it would not resume.

    The stages of chains, whose directories end in another digest, get none.
    """
    ending = f"-{parts.digest()[:8]}"
    is_new = directory.name.endswith(ending) and not directory.is_dir()
    if not (is_new and parts.trains and parts.train.resume == "auto"):
        return
    total = f" of {steps:,}" if steps else ""
    for folder in sorted(Path(parts.runtime.output).glob(f"?*{ending}")):
        known = recorded(folder)
        if known is None or any(identity.differences(known)):
            continue
        name = folder.name.removesuffix(ending)
        yield (
            f"{folder} holds a run of this recipe, at step {_newest_step(folder):,}{total}; "
            f"run --name {shlex.quote(name)} goes on with it, .named({name!r}) in Python"
        )


def _newest_step(folder: Path) -> int:
    from gpt2dsl.weights import store  # noqa: PLC0415  # NumPy: only where runs are

    return store.steps(folder / "checkpoints")[-1][0]


def recorded(folder: Path) -> Identity | None:
    """Return the identity of a run that has a checkpoint; None where its records disagree.

    They disagree after a refused run, which leaves its own plan beside an earlier checkpoint.
    """
    from gpt2dsl.weights import store, training_state  # noqa: PLC0415  # NumPy: only where runs are

    steps = store.steps(folder / "checkpoints")
    try:
        plan = Identity.from_json(json.loads((folder / _PLAN).read_bytes())["identity"])
        state = training_state.read_state(steps[-1][1])
        checkpoint = Identity.from_json(state["identity"])
    except (OSError, ValueError, KeyError, TypeError, IndexError, InputError):
        return None
    # Only the checkpoint's identity has a vocabulary that was trained or came with the weights.
    return plan if _without(plan) == _without(checkpoint) else None


def _without(identity: Identity) -> Identity:
    """Return an identity without its tokenizer."""
    return attrs.evolve(
        identity,
        values={key: value for key, value in identity.values.items() if key != _TOKENIZER},
        contents={key: text for key, text in identity.contents.items() if key != _TOKENIZER},
    )
