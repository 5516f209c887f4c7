"""Resharding of checkpoints from one parallel layout to another, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.errors import InputError, some
from gpt2dsl.layout.checkpoint_tensors import (
    CheckpointTensorSpec,
    filed,
    shape_in_whole_files,
    state_of,
)
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.params import param_specs
from gpt2dsl.schema.folder import TRAINING_STATE
from gpt2dsl.weights import rank_file, store, training_state, writing
from gpt2dsl.weights.files import tensorfile
from gpt2dsl.weights.files.hashing import AHEAD, HashedFile
from gpt2dsl.weights.files.lazy_tensor import BLOCK, LazyTensor
from gpt2dsl.weights.files.pieces import SlicedTensor, resized, within
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.network_weights import Weights
from gpt2dsl.weights.stream_digest import Moved

AT_ONCE = 64
"""Maximum number of rank files open at once; for more ranks the source is read again."""


@attrs.frozen(kw_only=True)
class Target:
    """The layout to write.

    Attributes:
        ranks: dp, mp and pp; a single rank gives a folder that transformers reads.
        zero: whether optimizer state is sharded over dp.
    """

    ranks: ParallelDims
    zero: bool = False

    @property
    def is_whole(self) -> bool:
        """True for a single rank."""
        return self.ranks.count == 1

    def table(self, geometry: GPT2Config, states: Sequence[str]) -> list[CheckpointTensorSpec]:
        """Return the specs of the tensors in its files, given the names of optimizer states."""
        kinds = tuple(dict.fromkeys(map(state_of, states)))
        return filed(geometry, self.ranks, kinds, zero=self.zero)


@attrs.frozen(kw_only=True)
class TrainingState:
    """Training state of a checkpoint: that of the optimizer, and the document of the run."""

    states: Mapping[str, LazyTensor]
    document: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, geometry: GPT2Config, overrides: Overrides) -> TrainingState:
        """Return the training state of a checkpoint.

        Raises:
            InputError: the training state is absent (G2-301), damaged (G2-304), or of another
                training (G2-316).
        """
        if not (folder / TRAINING_STATE).is_file():
            message = f"it holds no state of a training: there is no {TRAINING_STATE} in it"
            raise InputError("G2-301", folder, message)
        document = training_state.read_state(folder)
        if absent := [word for word in ("step", "updates") if type(document.get(word)) is not int]:
            message = f"it does not say {' and '.join(absent)}"
            raise InputError("G2-304", folder / TRAINING_STATE, message)
        states = training_state.stored(folder, overrides)
        return cls(states=_whole_states(states, geometry, folder), document=document)


@attrs.frozen
class RecordedDigests:
    """Digests of weights and optimizer state recorded in a folder's manifest; "" for none."""

    folder: Path
    weights: str
    optimizer: str

    @classmethod
    def of(cls, folder: Path) -> RecordedDigests:
        """Return the digests recorded in a folder's manifest."""
        entries = store.recorded(folder)
        return cls(folder, str(entries.get("digest", "")), str(entries.get("optimizer_digest", "")))

    def prove(self, *, optimizer: bool) -> bool:
        """Return whether the digests verify all tensors, whose files need no second read then.

        Raises:
            InputError: a file without tensors is damaged (G2-304).
        """
        if not self.weights or (optimizer and not self.optimizer):
            return False
        store.verify(self.folder, but=".safetensors")
        return True

    def compare(self, weights: str, optimizer: str) -> None:
        """Raise an error if the tensors read differ from those recorded.

        Raises:
            InputError: it names the damaged file if a checksum identifies it (G2-304).
        """
        pairs = {
            "weights": (weights, self.weights),
            "optimizer's state": (optimizer, self.optimizer),
        }
        for what, (computed, known) in pairs.items():
            if computed and known and computed != known:
                store.verify(self.folder)
                message = f"the digest of its {what} is {computed}, {known} is recorded"
                raise InputError("G2-304", self.folder, message)


def _whole_states(
    states: Mapping[str, LazyTensor], geometry: GPT2Config, folder: Path
) -> dict[str, LazyTensor]:
    """Return optimizer states in the order of training, each checked for its parameter's shape."""
    kinds = dict.fromkeys(map(state_of, states))
    shapes = {
        f"{kind}.{tensor.name}": shape_in_whole_files(tensor, geometry, kind)
        for kind in kinds
        for tensor in param_specs(geometry)
    }
    if strange := shapes.keys() ^ states.keys():
        message = f"its optimizer is not that of this network: {some(sorted(strange))}"
        raise InputError("G2-316", folder, message)
    for name, shape in shapes.items():
        if states[name].shape != shape:
            message = f"{name} is {list(states[name].shape)}, its parameter {list(shape)}"
            raise InputError("G2-316", folder, message)
    return {name: states[name] for name in shapes}


def size(
    geometry: GPT2Config,
    weights: Mapping[str, LazyTensor],
    states: Mapping[str, LazyTensor],
    target: Target,
) -> int:
    """Return the bytes of the tensors to be written, replicas included."""
    tensors = {**weights, **states}
    if target.is_whole:
        return sum(tensor.size for tensor in tensors.values())
    ranks, total = target.ranks, 0
    for spec in target.table(geometry, tuple(states)):
        if (tensor := tensors.get(spec.name)) is None:
            continue
        part = SlicedTensor.at(tensor, spec.layout.box(spec.shape, 0))
        total += part.size * ranks.dp * ranks.mp * len(spec.stages)
    return total


def memory(target: Target) -> int:
    """Return the bytes of the blocks in memory at once."""
    return BLOCK * (AHEAD + 2) * min(target.ranks.count, AT_ONCE)


def write(
    path: Path,
    content: Weights,
    training: TrainingState | None,
    target: Target,
    *,
    source: object,
    moved: Moved,
    recorded: RecordedDigests | None = None,
) -> str:
    """Write a checkpoint in a layout, atomically; other arguments as in ``writing.unfinished``.

    Args:
        path: the new folder.
        content: whole tensors, in Hugging Face's shapes.
        training: the training state; None to leave it out.
        target: the layout.
        source: name of the source.
        moved: callback.
        recorded: the digests of the source; None if it has none.

    Returns:
        The digest of the whole weights, the same in every layout.

    Raises:
        InputError: a value is not finite (G2-306), or the source is damaged or its digest differs
            from the recorded one (G2-304).
        RunError: the target exists already or can't be written.
    """
    with writing.unfinished(path, source, "", moved) as new:
        weights = new.stream.over(content.tensors)
        states = new.stream.over(training.states) if training else {}
        if target.is_whole:
            new.digests.update(huggingface.write_stored(new.folder, content.config, weights))
            if states:
                new.digests.update(training_state.write_tensors(new.folder, states))
        else:
            huggingface.write_config(new.folder, content.config, weights)
            split = _RankFiles(new.folder, content.geometry, target, {**weights, **states})
            new.digests.update(split.write())
        if training:
            training_state.write_state(new.folder, training.document)
        writing.copy_beside(content, new.folder)
        digest = new.stream.digest(weights)
        of_states = new.stream.digest(states) if states else ""
        if recorded:
            recorded.compare(digest, of_states)
        new.meta.update(layout=attrs.asdict(target), digest=digest, optimizer_digest=of_states)
    return digest


class _RankFiles:
    """Writer of all ranks' files; each block of the source goes to every rank that needs it."""

    def __init__(
        self,
        folder: Path,
        geometry: GPT2Config,
        target: Target,
        tensors: Mapping[str, LazyTensor],
    ) -> None:
        self.folder = folder
        self.ranks = target.ranks
        names = [name for name in tensors if state_of(name)]
        self.table = target.table(geometry, names)
        self.tensors = {spec.name: resized(tensors[spec.name], spec.shape) for spec in self.table}

    def write(self) -> dict[str, str]:
        """Write all ranks' files and their strategy files; return file → checksum."""
        rank_file.write_strategies(self.folder, self.table, self.ranks)
        digests = {}
        for first in range(0, self.ranks.count, AT_ONCE):
            digests.update(self._write_ranks(range(first, min(first + AT_ONCE, self.ranks.count))))
        return digests

    def _write_ranks(self, numbers: range) -> dict[str, str]:
        """Write the files of some ranks; return file → checksum."""
        with ExitStack() as stack:
            files = {rank: stack.enter_context(self._open_rank(rank)) for rank in numbers}
            for spec in self.table:
                self._spread(spec, files)
        return {rank_file.name_of(rank): file.checksum() for rank, file in files.items()}

    def _open_rank(self, rank: int) -> Any:
        parts = {
            spec.name: SlicedTensor.at(self.tensors[spec.name], rank_file.box_of(spec, rank))
            for spec in self.table
            if rank_file.holds(spec, self.ranks, rank)
        }
        file = self.folder / rank_file.name_of(rank)
        file.parent.mkdir()
        return tensorfile.begun(file, parts, rank=str(rank))

    def _spread(self, spec: CheckpointTensorSpec, files: Mapping[int, HashedFile]) -> None:
        """Write a tensor's parts to the files of the ranks that need them."""
        boxes = {
            rank: rank_file.box_of(spec, rank)
            for rank in files
            if rank_file.holds(spec, self.ranks, rank)
        }
        if not boxes:
            return
        first = 0
        for block in self.tensors[spec.name].blocks():
            for rank, box in boxes.items():
                part = within(box, block, first)
                if part.size:
                    files[rank].write(part.data)
            first += len(block)
