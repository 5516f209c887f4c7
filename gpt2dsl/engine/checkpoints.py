"""Checkpoints of a training run: atomic writes, and what a resume restores."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.rundir import RunDirectory
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.identity.identity import Difference, Identity, refusal
from gpt2dsl.layout.checkpoint_tensors import MASTER
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.params import SCORE
from gpt2dsl.terminal import say
from gpt2dsl.training.step import TrainStep
from gpt2dsl.weights import nearby, opening, reading, store, training_state
from gpt2dsl.weights.files.lazy_tensor import NAMES, LazyTensor
from gpt2dsl.weights.formats import huggingface, lora, peft_writing
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.values import Values

Arrays = dict[str, NDArray[np.float32]]
KINDS = {name: kind for kind, name in NAMES.items()}
_MASTER = f"{MASTER}."

LEGACY = {"data": "task.data", "tokenizer": "data.tokenizer"}
"""Key in the checkpoint state of releases before 0.2 → key of an identity."""


@attrs.frozen(kw_only=True)
class Checkpoints:
    """The checkpoints of a run.

    Attributes:
        parent: their folder.
        step: the training step whose state they store.
        tokenizer: tokenizer saved with the weights.
        identity: everything that the run's result depends on.
        keep: number of checkpoints to keep, besides the best one.
        initial: returns the weights that training began with, to which adapters belong.
        writes: whether this rank writes; all ranks must call ``save``, which gathers their parts.
        classes: class names of a classifier.
        base: base weights of adapters, as named in their files.
        config: config.json of the initial weights; {} for new ones.
        generation: generation_config.json of full weights; None for a minimal one.
        adapter_dropout: dropout probability of adapters, recorded in their files.
        layout: parallel layout of the run, recorded in the state.
    """

    parent: Path
    step: TrainStep
    tokenizer: Tokenizer
    identity: Identity
    keep: int
    initial: Callable[[], Values]
    writes: bool = True
    classes: Sequence[str] = ()
    base: str = ""
    config: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    generation: Mapping[str, Any] | None = None
    adapter_dropout: float = 0.0
    layout: ParallelDims = attrs.field(factory=ParallelDims)
    micro_batches: int = 1

    def save(self, best: int | None = None) -> Path:
        """Write ``step-<N>``; delete all but the newest checkpoints and that of step ``best``."""
        folder = self.parent / f"step-{self.step.steps}"
        values, state = self.step.network.trained_arrays(), self.step.state()
        if not self.writes:
            return folder
        digests: dict[str, str] = {}
        meta: dict[str, Any] = {"step": self.step.steps, **nearby.noted(folder, self.base)}
        with store.writing(folder, meta, digests, replace=True) as unfinished:
            digests |= self._write_weights(unfinished, values)
            document = {
                **self.step.progress(),
                "layout": str(self.layout),
                "micro_batches": self.micro_batches,
                "identity": self.identity.to_json(),
            }
            digests |= training_state.write(unfinished, state | self._masters(values), document)
        store.prune(self.parent, self.keep, best)
        return folder

    def _write_weights(self, folder: Path, values: Arrays) -> dict[str, str]:
        """Write full weights for transformers, or adapters for PEFT; return file digests."""
        network = self.step.network
        geometry = network.config
        if network.adapters:
            full = {name: values[name] for name in (SCORE,) if name in values}
            added = {name: value for name, value in values.items() if name not in full}
            adapter = lora.to_files(network.adapters, added, full, self.base, self.adapter_dropout)
            self.tokenizer.save(folder, geometry.positions, pads=geometry.labels > 0)
            if geometry.labels:
                content = huggingface.config_of(geometry, self.tokenizer, self.classes, self.config)
                huggingface.write_classes(folder, content)
            return peft_writing.write(folder, adapter)
        kind = KINDS[network.precision.params]
        return huggingface.write(
            folder,
            geometry,
            values,
            self.tokenizer,
            self.classes,
            kind=kind,
            source=self.config,
            generation=self.generation,
        )

    def _masters(self, values: Arrays) -> Arrays:
        """Return float32 master parameters, if the weights file rounds them."""
        network = self.step.network
        if network.adapters or network.precision.params == "float32":
            return {}
        return {f"{_MASTER}{name}": array for name, array in values.items()}

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
