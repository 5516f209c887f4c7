"""What a rank writes of a checkpoint, taken from the network and the optimizer.

One process writes a folder for transformers, several ranks a file each. Adapters are small: all
ranks gather them, and one writes them for PEFT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.layout.checkpoint_tensors import MASTER, CheckpointTensorSpec, filed, state_of
from gpt2dsl.layout.params import SCORE, VOCAB_TABLES
from gpt2dsl.training.step import TrainStep
from gpt2dsl.weights import rank_file, training_state
from gpt2dsl.weights.files.lazy_tensor import NAMES, ArrayTensor, LazyTensor, converted
from gpt2dsl.weights.formats import huggingface, lora, peft_writing

Arrays = dict[str, NDArray[np.float32]]
Digests = dict[str, str]
Write = Callable[[Path], Digests]
"""Function that writes files to a folder and returns the checksums of those with tensors."""

KINDS = {name: kind for kind, name in NAMES.items()}


@attrs.frozen(kw_only=True)
class CheckpointContents:
    """The contents of a run's checkpoints.

    Attributes:
        step: the training step whose state they store.
        tokenizer: tokenizer saved with the weights.
        team: the ranks.
        copies: whether training goes on while a checkpoint is written.
        classes: class names of a classifier.
        base: base weights of adapters, as named in their files.
        config: config.json of the initial weights; {} for new ones.
        generation: generation_config.json of full weights; None for a minimal one.
        adapter_dropout: dropout probability of adapters, recorded in their files.
    """

    step: TrainStep
    tokenizer: Tokenizer
    team: ParallelContext
    copies: bool = False
    classes: Sequence[str] = ()
    base: str = ""
    config: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    generation: Mapping[str, Any] | None = None
    adapter_dropout: float = 0.0

    @property
    def is_split(self) -> bool:
        """Whether every rank writes a part; otherwise the main process writes everything."""
        return not (self.team.is_alone or self.step.network.adapters)

    def taken(self, document: Mapping[str, Any]) -> Write:
        """Return the function that writes the current state; all ranks must call it.

        It may run in another thread, while training goes on if ``copies``.

        Args:
            document: the state of the run, which the main process writes.
        """
        if self.is_split:
            return self._of_rank(document)
        if self.step.network.adapters:
            return self._adapters(document)
        return self._whole(document)

    def _of_rank(self, document: Mapping[str, Any]) -> Write:
        """Return the writer of this rank's file, and on the main process of all but tensors."""
        team, network = self.team, self.step.network
        kinds = (*self.step.optimizer.kinds, *((MASTER,) if self._rounds else ()))
        table = filed(network.config, team.dims, kinds, once=True)
        shards = network.local_arrays() | self.step.local_state()
        own = [spec for spec in table if rank_file.holds(spec, team.dims, team.rank)]
        parts = {
            spec.name: self._own(rank_file.part_of(spec, shards[spec.name], team.dims, team.rank))
            for spec in own
            if state_of(spec.name) != MASTER
        }
        tensors = {spec.name: self._stored(spec, parts) for spec in own}

        def write(folder: Path) -> Digests:
            if team.is_main_process:
                self._write_beside(folder, tensors)
                rank_file.write_strategies(folder, table, team.dims)
                training_state.write_state(folder, document)
            return rank_file.write(folder, team.rank, tensors)

        return write

    def _stored(self, spec: CheckpointTensorSpec, parts: Arrays) -> LazyTensor:
        """Return a tensor as stored: weights in the precision of parameters, states in float32."""
        tensor = ArrayTensor.of(parts[spec.name.removeprefix(f"{MASTER}.")])
        return tensor if state_of(spec.name) else converted(tensor, self._kind)

    def _whole(self, document: Mapping[str, Any]) -> Write:
        """Return the writer of a folder for transformers and of the optimizer's state."""
        network = self.step.network
        vocab = network.config.vocab
        values = {
            name: self._own(array[:vocab] if name in VOCAB_TABLES else array)
            for name, array in network.local_arrays().items()
        }
        states = {name: self._own(array) for name, array in self.step.local_state().items()}
        if self._rounds:
            states |= {f"{MASTER}.{name}": array for name, array in values.items()}

        def write(folder: Path) -> Digests:
            tensors = {
                name: converted(ArrayTensor.of(array), self._kind) for name, array in values.items()
            }
            self._write_beside(folder, tensors)
            digests = huggingface.write_tensors(folder, tensors)
            return digests | training_state.write(folder, states, document)

        return write

    def _adapters(self, document: Mapping[str, Any]) -> Write:
        """Return the writer of a folder for PEFT and of the optimizer's state (collective)."""
        values, states = self.step.network.trained_arrays(), self.step.state()

        def write(folder: Path) -> Digests:
            digests = self._write_adapters(folder, values)
            return digests | training_state.write(folder, states, document)

        return write

    def _write_adapters(self, folder: Path, values: Arrays) -> Digests:
        network = self.step.network
        geometry = network.config
        full = {name: values[name] for name in (SCORE,) if name in values}
        added = {name: value for name, value in values.items() if name not in full}
        adapter = lora.to_files(network.adapters, added, full, self.base, self.adapter_dropout)
        self.tokenizer.save(folder, geometry.positions, pads=geometry.labels > 0)
        if geometry.labels:
            content = huggingface.config_of(geometry, self.tokenizer, self.classes, self.config)
            huggingface.write_classes(folder, content)
        return peft_writing.write(folder, adapter)

    def _write_beside(self, folder: Path, tensors: Mapping[str, LazyTensor]) -> None:
        weights = {name: tensor for name, tensor in tensors.items() if not state_of(name)}
        huggingface.write_beside(
            folder,
            self.step.network.config,
            weights,
            self.tokenizer,
            self.classes,
            source=self.config,
            generation=self.generation,
        )

    def _own(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an array that stays as it is until it is written."""
        return np.array(array, order="C") if self.copies else array

    @property
    def _kind(self) -> str:
        """Element type of weights in files."""
        return KINDS[self.step.network.precision.params]

    @property
    def _rounds(self) -> bool:
        """Whether files round weights, so that float32 masters are stored too."""
        return self._kind != "F32"
