"""Checkpoints of a training run: written whole, found again, resumed from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import attrs

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.progress import say
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.model.training import TrainStep
from gpt2dsl.weights import optimizer, reading, store
from gpt2dsl.weights.formats import huggingface


@attrs.frozen(kw_only=True)
class Identity:
    """What a checkpoint must share with the run that goes on from it.

    Attributes:
        data: SHA-256 of the training text.
        tokenizer: SHA-256 of the vocabulary.
    """

    data: str
    tokenizer: str


def save(
    parent: Path,
    step: TrainStep,
    tokenizer: Tokenizer,
    identity: Identity,
    keep: int,
    *,
    classes: Sequence[str] = (),
) -> Path:
    """Write ``step-<N>`` and drop all but the newest ``keep``; gives the folder."""
    folder = parent / f"step-{step.steps}"
    network = step.network
    digests: dict[str, str] = {}
    with store.writing(folder, {"step": step.steps}, digests, replace=True) as unfinished:
        digests |= huggingface.write(
            unfinished, network.geometry, network.arrays(), tokenizer, classes
        )
        state = {"step": step.steps, **attrs.asdict(identity)}
        digests |= optimizer.write(unfinished, step.state(), state)
    store.prune(parent, keep)
    return folder


def find(parent: Path, resume: str) -> Path | None:
    """The checkpoint to go on from, None to start anew.

    Args:
        parent: the run's checkpoints.
        resume: auto, never, or a checkpoint's folder.
    """
    if resume == "never":
        return None
    if resume != "auto":
        store.verify(Path(resume))
        return Path(resume)
    newest = store.newest(parent)
    for fault in newest.passed:
        say(f"passed over: {fault}")
    return newest.folder


def set_aside(parent: Path, step: int) -> None:
    """Move checkpoints of later steps to a neighbour of ``parent``, where no resume finds them."""
    later = [folder for number, folder in store.steps(parent) if number > step]
    if not later:
        return
    free = (parent.with_name(f"{parent.name}-before-{i}") for i in itertools.count(1))
    aside = next(path for path in free if not path.exists())
    aside.mkdir()
    for folder in later:
        folder.rename(aside / folder.name)
    say(f"{len(later)} checkpoint(s) of later steps moved to {aside}")


def restore(folder: Path, step: TrainStep, identity: Identity) -> None:
    """Go on from a checkpoint.

    Raises:
        InputError: it is damaged, or of another network.
        RunError: the data or the vocabulary is another one than when it was written.
    """
    moments, state = optimizer.read(folder)
    for name, now in attrs.asdict(identity).items():
        if state.get(name) != now:
            raise RunError(
                f"{folder}: the {name} has changed since this checkpoint was written; "
                f"train.resume = never starts anew [G2-402]"
            )
    try:
        step.network.load(reading.read(folder).arrays)
        step.load_state(moments, int(state["step"]))
    except (ValueError, KeyError) as error:
        raise InputError("G2-306", folder, f"not a checkpoint of this run: {error}") from None
