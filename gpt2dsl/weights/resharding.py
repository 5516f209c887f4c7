"""Resharding of checkpoints from one parallel layout to another, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.errors import InputError, some
from gpt2dsl.layout.checkpoint_tensors import CheckpointTensorSpec, filed, network_shape, state_of
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.params import VOCAB_TABLES, param_specs
from gpt2dsl.layout.tensor_layout import Box
from gpt2dsl.weights import location, store, training_state, writing
from gpt2dsl.weights.files import strategyfile, tensorfile
from gpt2dsl.weights.files.hashing import AHEAD, HashedFile
from gpt2dsl.weights.files.lazy_tensor import BLOCK, LazyTensor
from gpt2dsl.weights.files.pieces import Padded, Part, reshaped, within
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.stream_digest import Moved
from gpt2dsl.weights.writing import Content

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
class Training:
    """Training state of a checkpoint.

    Attributes:
        states: optimizer state.
        document: the step and everything else needed to resume.
    """

    states: Mapping[str, LazyTensor]
    document: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, geometry: GPT2Config, hints: Overrides) -> Training:
        """Return the training state of a checkpoint.

        Args:
            folder: the checkpoint's folder.
            geometry: the network.
            hints: the layout, if no strategy files are found.

        Raises:
            InputError: the training state is absent (G2-301), damaged (G2-304), or of another
                training (G2-316).
        """
        if not (folder / training_state.STATE).is_file():
            message = f"it holds no state of a training: there is no {training_state.STATE} in it"
            raise InputError("G2-301", folder, message)
        document = training_state.read_state(folder)
        if absent := [word for word in ("step", "updates") if type(document.get(word)) is not int]:
            message = f"it does not say {' and '.join(absent)}"
            raise InputError("G2-304", folder / training_state.STATE, message)
        states = training_state.stored(folder, hints)
        return cls(states=_whole_states(states, geometry, folder), document=document)


@attrs.frozen
class Recorded:
    """Digests recorded in a folder's manifest.

    Attributes:
        folder: the folder.
        weights: digest of the weights; "" if none is recorded.
        optimizer: digest of the optimizer state; "" if none is recorded.
    """

    folder: Path
    weights: str
    optimizer: str

    @classmethod
    def of(cls, folder: Path) -> Recorded:
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
        f"{kind}.{tensor.name}": network_shape(tensor, geometry, kind)
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
        part = Part.at(tensor, spec.layout.box(spec.shape, 0))
        total += part.size * ranks.dp * ranks.mp * len(spec.stages)
    return total


def memory(target: Target) -> int:
    """Return the bytes of the blocks in memory at once."""
    return BLOCK * (AHEAD + 2) * min(target.ranks.count, AT_ONCE)


def write(
    path: Path,
    content: Content,
    training: Training | None,
    target: Target,
    *,
    source: object,
    moved: Moved,
    recorded: Recorded | None = None,
) -> str:
    """Write a checkpoint in a layout, atomically.

    Args:
        path: the new folder.
        content: whole tensors, in Hugging Face's shapes.
        training: the training state; None to leave it out.
        target: the layout.
        source: name of the source, for messages.
        moved: callback for the number of bytes read.
        recorded: the digests of the source; None if it has none.

    Returns:
        The digest of the whole weights, the same in every layout.

    Raises:
        InputError: a value is not finite (G2-306), or the source is damaged or its digest differs
            from the recorded one (G2-304).
        RunError: the target exists already or can't be written.
    """
    with writing.unfinished(path, source, "", moved) as new:
        weights = new.watch.over(content.tensors)
        states = new.watch.over(training.states) if training else {}
        if target.is_whole:
            new.digests.update(huggingface.write_stored(new.folder, content.config, weights))
            if states:
                new.digests.update(training_state.write_tensors(new.folder, states))
        else:
            huggingface.write_config(new.folder, content.config, weights)
            split = _Split(new.folder, content.geometry, target, {**weights, **states})
            new.digests.update(split.write())
        if training:
            training_state.write_state(new.folder, training.document)
        writing.copy_beside(content, new.folder)
        digest = new.watch.digest(weights)
        of_states = new.watch.digest(states) if states else ""
        if recorded:
            recorded.compare(digest, of_states)
        new.meta.update(layout=attrs.asdict(target), digest=digest, optimizer_digest=of_states)
    return digest


class _Split:
    """Writer of all ranks' files; each block of the source goes to every rank that needs it."""

    def __init__(
        self,
        folder: Path,
        geometry: GPT2Config,
        target: Target,
        param_specs: Mapping[str, LazyTensor],
    ) -> None:
        self.folder = folder
        self.ranks = target.ranks
        names = [name for name in param_specs if state_of(name)]
        self.table = target.table(geometry, names)
        self.tensors = {
            spec.name: _as_in_split_files(spec, param_specs[spec.name]) for spec in self.table
        }

    def write(self) -> dict[str, str]:
        """Write all ranks' files and their strategy files; return file → checksum."""
        strategies = self.folder / location.STRATEGY
        strategies.mkdir()
        strategyfile.write(strategies, self.table, self.ranks)
        digests = {}
        for first in range(0, self.ranks.count, AT_ONCE):
            digests.update(self._some(range(first, min(first + AT_ONCE, self.ranks.count))))
        return digests

    def _some(self, numbers: range) -> dict[str, str]:
        """Write the files of some ranks; return file → checksum."""
        with ExitStack() as stack:
            files = {rank: stack.enter_context(self._begun(rank)) for rank in numbers}
            for spec in self.table:
                self._spread(spec, files)
        return {_file(rank): file.checksum() for rank, file in files.items()}

    def _begun(self, rank: int) -> Any:
        (self.folder / _file(rank)).parent.mkdir()
        parts = {
            spec.name: Part.at(self.tensors[spec.name], self._box(spec, rank))
            for spec in self.table
            if self._holds(spec, rank)
        }
        return tensorfile.begun(self.folder / _file(rank), parts, rank=str(rank))

    def _spread(self, one: CheckpointTensorSpec, files: Mapping[int, HashedFile]) -> None:
        """Write a tensor's parts to the files of the ranks that need them."""
        boxes = {rank: self._box(one, rank) for rank in files if self._holds(one, rank)}
        if not boxes:
            return
        first = 0
        for block in self.tensors[one.name].blocks():
            for rank, box in boxes.items():
                part = within(box, block, first)
                if part.size:
                    files[rank].write(part.data)
            first += len(block)

    def _holds(self, one: CheckpointTensorSpec, rank: int) -> bool:
        return self.ranks.place(rank).stage in one.stages

    def _box(self, one: CheckpointTensorSpec, rank: int) -> Box:
        return one.layout.box(one.shape, rank % one.layout.count)


def _file(rank: int) -> str:
    return f"rank_{rank}/{location.WEIGHTS}"


def _as_in_split_files(one: CheckpointTensorSpec, tensor: LazyTensor) -> LazyTensor:
    if one.name.endswith(VOCAB_TABLES) and tensor.shape != one.shape:
        return Padded(tensor.kind, one.shape, tensor)
    return reshaped(tensor, one.shape)
