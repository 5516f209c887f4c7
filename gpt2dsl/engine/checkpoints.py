"""Checkpoints of a training run: what a resume restores."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.engine.rundir import RunDirectory
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.identity.identity import Difference, Identity, refusal
from gpt2dsl.layout.checkpoint_tensors import MASTER
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.terminal import say
from gpt2dsl.training.step import TrainStep
from gpt2dsl.weights import opening, reading, store, training_state
from gpt2dsl.weights.files.lazy_tensor import LazyTensor
from gpt2dsl.weights.formats import lora
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.values import Values

_MASTER = f"{MASTER}."

LEGACY = {"data": "task.data", "tokenizer": "data.tokenizer"}
"""Key in the checkpoint state of releases before 0.2 → key of an identity."""


@attrs.frozen(kw_only=True)
class Checkpoints:
    """The checkpoints of a run.

    Attributes:
        parent: their folder.
        step: the training step whose state they store.
        identity: everything that the run's result depends on.
        initial: returns the weights that training began with, to which adapters belong.
        layout: parallel layout of the run.
        micro_batches: micro-batches per rank and step.
    """

    parent: Path
    step: TrainStep
    identity: Identity
    initial: Callable[[], Values]
    layout: ParallelDims = attrs.field(factory=ParallelDims)
    micro_batches: int = 1

    def restore(self, folder: Path) -> list[Difference]:
        """Restore a verified checkpoint; return the differences of identity that are allowed.

        Only this rank's part is read, once.

        Raises:
            InputError: the checkpoint is damaged, or of another network.
            RunError: something that must be equal has changed since it was written.
        """
        tensors, state = training_state.read(folder)
        differences = [
            difference
            for difference in self._differences(state)
            # The checkpoint that a run starts from was written by another run.
            if folder.parent == self.parent
            or (difference.is_content, difference.key) != (True, "train.resume")
        ]
        if reasons := refusal(differences):
            raise RunError("G2-402", f"{folder}: {reasons}")
        try:
            self._load_weights(folder, tensors)
            self.step.load_state(Values(tensors), state)
        except (ValueError, KeyError, TypeError) as error:
            message = f"not a checkpoint of this run: {error}"
            raise InputError("G2-316", folder, message) from None
        return [difference for difference in differences if difference.rule.kind == "differ"]

    def relaid(self, folder: Path) -> str:
        """Return a note that another layout, or other micro-batches, wrote a checkpoint."""
        return relaid(folder, self.layout, self.micro_batches)

    def _differences(self, state: Mapping[str, Any]) -> list[Difference]:
        """Return how the identity has changed since a checkpoint was written."""
        if "identity" in state:
            return list(self.identity.differences(Identity.from_json(state["identity"])))
        # Releases before 0.2 recorded two digests.
        recorded = {LEGACY[name]: state[name] for name in LEGACY if name in state}
        if self.step.network.adapters:
            say("an earlier release wrote this checkpoint: whether its base changed is not known")
        known = {key: self.identity.contents[key] for key in recorded}
        legacy = Identity(values={}, contents=recorded)
        return list(Identity(values={}, contents=known).differences(legacy))

    def _load_weights(self, folder: Path, state: Mapping[str, LazyTensor]) -> None:
        """Load the network: the checkpoint's weights, or its adapters on those of the run."""
        network = self.step.network
        masters = [name for name in state if name.startswith(_MASTER)]
        if network.adapters:
            adapter = opening.adapter(folder, Overrides(), contents=False)
            network.load_adapters(lora.from_files(network.adapters, adapter))
            network.load(self.initial().replaced(adapter.full))
        elif masters:
            tensors = {name.removeprefix(_MASTER): state[name] for name in masters}
            network.load(Values(tensors, folder))
        else:
            network.load(reading.read(folder, contents=False).values)


def relaid(folder: Path, layout: ParallelDims, micro_batches: int = 0) -> str:
    """Return a note that another layout, or other micro-batches, wrote a checkpoint.

    Returns:
        "" if they are the same or unknown.
    """
    state = training_state.read_state(folder)
    before = state.get("layout") or _layout_of_attempts(folder)
    notes = [] if before in ("", str(layout)) else [f"{layout}, before {before}"]
    earlier = state.get("micro_batches", micro_batches)
    if micro_batches and earlier != micro_batches:
        notes.append(f"micro_batches {micro_batches}, before {earlier}")
    return f"; {'; '.join(notes)}: equal but for rounding" if notes else ""


def _layout_of_attempts(folder: Path) -> str:
    """Return the layout that wrote a checkpoint, from what its run noted; "" if unknown."""
    return RunDirectory(folder.absolute().parent.parent, writes=False).layout_at(step_of(folder))


def step_of(folder: Path) -> int:
    """Return the step of a checkpoint, -1 if unknown."""
    step = store.recorded(folder).get("step", -1)
    return step if isinstance(step, int) else -1


def set_aside(parent: Path, step: int) -> None:
    """Move checkpoints of later steps to a sibling of ``parent``, out of reach of resume."""
    later = [folder for number, folder in store.steps(parent) if number > step]
    if not later:
        return
    free = (parent.with_name(f"{parent.name}-before-{i}") for i in itertools.count(1))
    aside = next(path for path in free if not path.exists())
    aside.mkdir()
    for folder in later:
        folder.rename(aside / folder.name)
    say(f"{len(later)} checkpoint(s) of later steps moved to {aside}")
