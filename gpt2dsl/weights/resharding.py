"""Checkpoints from one layout of ranks into another, a block at a time."""

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
"""Files of ranks that are open together; for more ranks the source is read again."""


@attrs.frozen(kw_only=True)
class Target:
    """The layout of what is written.

    Attributes:
        ranks: dp, mp and pp; of one rank it is a folder as transformers reads it.
        zero: whether the optimizer's state is shared out over dp.
    """

    ranks: ParallelDims
    zero: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing is split."""
        return self.ranks.count == 1

    def table(self, geometry: GPT2Config, states: Sequence[str]) -> list[CheckpointTensorSpec]:
        """Return the tensors of its files; ``states`` are names of the optimizer's."""
        kinds = tuple(dict.fromkeys(map(state_of, states)))
        return filed(geometry, self.ranks, kinds, zero=self.zero)


@attrs.frozen(kw_only=True)
class Training:
    """What a checkpoint holds besides weights.

    Attributes:
        states: the optimizer's tensors.
        document: the step, and whatever else a resume needs.
    """

    states: Mapping[str, LazyTensor]
    document: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, geometry: GPT2Config, hints: Overrides) -> Training:
        """That of a checkpoint.

        Args:
            folder: the checkpoint's.
            geometry: the network.
            hints: how it is split, where nothing beside it says so.

        Raises:
            InputError: it holds none (G2-301), a damaged one (G2-304), or that of another network
                (G2-306).
        """
        if not (folder / training_state.STATE).is_file():
            message = f"it holds no state of a training: there is no {training_state.STATE} in it"
            raise InputError("G2-301", folder, message)
        document = training_state.read_state(folder)
        if lost := [word for word in ("step", "updates") if type(document.get(word)) is not int]:
            message = f"it does not say {' and '.join(lost)}"
            raise InputError("G2-304", folder / training_state.STATE, message)
        states = training_state.stored(folder, hints)
        return cls(states=_whole_states(states, geometry, folder), document=document)


@attrs.frozen
class Recorded:
    """The digests that a folder's manifest has of what it holds.

    Attributes:
        folder: it.
        weights: "" where there is none.
        optimizer: "" where there is none.
    """

    folder: Path
    weights: str
    optimizer: str

    @classmethod
    def of(cls, folder: Path) -> Recorded:
        """Those of a folder."""
        found = store.recorded(folder)
        return cls(folder, str(found.get("digest", "")), str(found.get("optimizer_digest", "")))

    def prove(self, *, optimizer: bool) -> bool:
        """Whether they prove the tensors that are read, whose files need not be read twice then.

        Raises:
            InputError: another file is damaged (G2-304).
        """
        if not self.weights or (optimizer and not self.optimizer):
            return False
        store.verify(self.folder, but=".safetensors")
        return True

    def compare(self, weights: str, optimizer: str) -> None:
        """Refuse what was read and is not what was written.

        Raises:
            InputError: it names the damaged file, where a checksum tells which it is (G2-304).
        """
        pairs = {
            "weights": (weights, self.weights),
            "optimizer's state": (optimizer, self.optimizer),
        }
        for what, (found, known) in pairs.items():
            if found and known and found != known:
                store.verify(self.folder)
                message = f"the digest of its {what} is {found}, {known} is recorded"
                raise InputError("G2-304", self.folder, message)


def _whole_states(
    states: Mapping[str, LazyTensor], geometry: GPT2Config, folder: Path
) -> dict[str, LazyTensor]:
    """The states in the order in which trainings write them, each of its parameter's shape."""
    kinds = dict.fromkeys(map(state_of, states))
    shapes = {
        f"{kind}.{tensor.name}": network_shape(tensor, geometry, kind)
        for kind in kinds
        for tensor in param_specs(geometry)
    }
    if strange := shapes.keys() ^ states.keys():
        message = f"its optimizer is not that of this network: {some(sorted(strange))}"
        raise InputError("G2-306", folder, message)
    for name, shape in shapes.items():
        if states[name].shape != shape:
            message = f"{name} is {list(states[name].shape)}, its parameter {list(shape)}"
            raise InputError("G2-306", folder, message)
    return {name: states[name] for name in shapes}


def size(
    geometry: GPT2Config,
    weights: Mapping[str, LazyTensor],
    states: Mapping[str, LazyTensor],
    target: Target,
) -> int:
    """Return the bytes of the tensors that are written, copies included."""
    found_in = {**weights, **states}
    if target.is_whole:
        return sum(tensor.size for tensor in found_in.values())
    ranks, found = target.ranks, 0
    for one in target.table(geometry, tuple(states)):
        if (tensor := found_in.get(one.name)) is None:
            continue
        part = Part.at(tensor, one.layout.box(one.shape, 0))
        found += part.size * ranks.dp * ranks.mp * len(one.stages)
    return found


def memory(target: Target) -> int:
    """Return the bytes of the blocks that are on their way at once."""
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
    """Write a checkpoint in a layout: whole under its name, or not there.

    Args:
        path: a folder, which must not be there.
        content: whole tensors, in Hugging Face's shapes.
        training: the optimizer's; None to leave it out.
        target: the layout.
        source: where it comes from, for messages.
        moved: is told of the bytes.
        recorded: the digests of the source; None where it has none.

    Returns:
        The digest of the whole weights, the same in every layout.

    Raises:
        InputError: a value is not finite (G2-306), or the source is damaged or has another digest
            than it has recorded (G2-304).
        RunError: the target is there already or can't be written.
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
    """Writes the files of all ranks, each block of the source to all that hold some of it."""

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
            one.name: _as_in_split_files(one, param_specs[one.name]) for one in self.table
        }

    def write(self) -> dict[str, str]:
        """Return all of them and their strategy files; file → checksum."""
        strategies = self.folder / location.STRATEGY
        strategies.mkdir()
        strategyfile.write(strategies, self.table, self.ranks)
        digests = {}
        for first in range(0, self.ranks.count, AT_ONCE):
            digests.update(self._some(range(first, min(first + AT_ONCE, self.ranks.count))))
        return digests

    def _some(self, numbers: range) -> dict[str, str]:
        """Return the files of some ranks."""
        with ExitStack() as stack:
            files = {rank: stack.enter_context(self._begun(rank)) for rank in numbers}
            for one in self.table:
                self._spread(one, files)
        return {_file(rank): file.checksum() for rank, file in files.items()}

    def _begun(self, rank: int) -> Any:
        (self.folder / _file(rank)).parent.mkdir()
        parts = {
            one.name: Part.at(self.tensors[one.name], self._box(one, rank))
            for one in self.table
            if self._holds(one, rank)
        }
        return tensorfile.begun(self.folder / _file(rank), parts, rank=str(rank))

    def _spread(self, one: CheckpointTensorSpec, files: Mapping[int, HashedFile]) -> None:
        """A tensor, to all that hold some of it."""
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
