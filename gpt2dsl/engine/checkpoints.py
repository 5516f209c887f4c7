"""Checkpoints of a training run: written whole, found again, resumed from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.progress import say
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.layout.distributed import MASTER
from gpt2dsl.layout.tensors import SCORE
from gpt2dsl.model.training import TrainStep
from gpt2dsl.weights import opening, optimizer, reading, store
from gpt2dsl.weights.files.stored import NAMES, Arrays
from gpt2dsl.weights.formats import huggingface, lora, peft_writing
from gpt2dsl.weights.formats.config import to_config
from gpt2dsl.weights.guess import Hints

Values = dict[str, NDArray[np.float32]]
KINDS = {name: kind for kind, name in NAMES.items()}
_MASTER = f"{MASTER}."


@attrs.frozen(kw_only=True)
class Identity:
    """What a checkpoint must share with the run that goes on from it.

    Attributes:
        data: SHA-256 of the training text.
        tokenizer: SHA-256 of the vocabulary.
        base: XXH3 of the frozen weights that adapters are trained on; "" where all are trained.
    """

    data: str
    tokenizer: str
    base: str = ""


@attrs.frozen(kw_only=True)
class Checkpoints:
    """The checkpoints of a run.

    Attributes:
        parent: their folder.
        step: what they keep.
        tokenizer: goes with the weights.
        identity: of the run.
        keep: how many stay, the best one not counted.
        writes: whether this rank does; all ranks save at once, and hold the parts that are written.
        classes: names of a classifier's classes.
        base: what adapters belong to, as their files name it.
        adapter_dropout: probability on their inputs, which their files say too.
        config: config.json of the weights that training started from; {} of new ones.
    """

    parent: Path
    step: TrainStep
    tokenizer: Tokenizer
    identity: Identity
    keep: int
    writes: bool = True
    classes: Sequence[str] = ()
    base: str = ""
    adapter_dropout: float = 0.0
    config: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    def save(self, best: int | None = None) -> Path:
        """Write ``step-<N>`` and drop all but the newest, and the one of step ``best``."""
        folder = self.parent / f"step-{self.step.steps}"
        values, state = self.step.network.trained_arrays(), self.step.state()
        if not self.writes:
            return folder
        digests: dict[str, str] = {}
        meta = {"step": self.step.steps}
        with store.writing(folder, meta, digests, replace=True) as unfinished:
            digests |= self._write_weights(unfinished, values)
            document = {**self.step.progress(), **attrs.asdict(self.identity)}
            digests |= optimizer.write(unfinished, state | self._masters(values), document)
        store.prune(self.parent, self.keep, best)
        return folder

    def _write_weights(self, folder: Path, values: Values) -> dict[str, str]:
        """All weights as transformers reads them, or adapters as PEFT does."""
        network = self.step.network
        geometry = network.geometry
        if network.adapters:
            full = {name: values[name] for name in (SCORE,) if name in values}
            added = {name: value for name, value in values.items() if name not in full}
            adapter = lora.to_files(network.adapters, added, full, self.base, self.adapter_dropout)
            self.tokenizer.save(folder, geometry.positions, pads=geometry.labels > 0)
            if geometry.labels:
                config = to_config(geometry, self.tokenizer.eos, self.classes, self.config)
                huggingface.write_classes(folder, config)
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
        )

    def _masters(self, values: Values) -> Values:
        """Parameters in float32, where the weights' file rounds them."""
        network = self.step.network
        if network.adapters or network.precision.params == "float32":
            return {}
        return {f"{_MASTER}{name}": array for name, array in values.items()}

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            InputError: it is damaged, or of another network.
            RunError: the data, the vocabulary or the base is another than when it was written.
        """
        arrays, state = optimizer.read(folder)
        for name, now in attrs.asdict(self.identity).items():
            if state.get(name, "") != now:
                raise RunError(
                    f"{folder}: the {name} has changed since this checkpoint was written; "
                    f"train.resume = never starts anew [G2-402]"
                )
        try:
            self._read_weights(folder, arrays)
            self.step.load_state(arrays, state)
        except (ValueError, KeyError, TypeError) as error:
            message = f"not a checkpoint of this run: {error}"
            raise InputError("G2-306", folder, message) from None

    def _read_weights(self, folder: Path, arrays: Arrays) -> None:
        network = self.step.network
        masters = [name for name in arrays if name.startswith(_MASTER)]
        if network.adapters:
            adapter = opening.adapter(folder, Hints())
            network.load_adapters(lora.from_files(network.adapters, adapter))
            for name, tensor in adapter.full.items():
                network.by_name[name].set_data(Tensor(tensor.load()))
        elif masters:
            network.load({name.removeprefix(_MASTER): arrays[name] for name in masters})
        else:
            network.load(reading.read(folder).arrays)


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
