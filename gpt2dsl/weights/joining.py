"""Lazy whole tensors, assembled from checkpoints sharded over ranks.

The layout comes from MindSpore's strategy files, or from dp, mp and pp. Replicas of a shard must be
equal; they are not compared if a manifest has already verified the files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from gpt2dsl.errors import InputError
from gpt2dsl.layout import checkpoint_tensors
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.params import VOCAB_TABLES, param_specs
from gpt2dsl.layout.tensor_layout import Box, TensorLayout
from gpt2dsl.weights import location
from gpt2dsl.weights.files import detect_format, strategyfile, tensorfile
from gpt2dsl.weights.files.lazy_tensor import LazyTensor
from gpt2dsl.weights.files.pieces import Assembled, FirstRows, Piece, reshaped
from gpt2dsl.weights.files.strategyfile import Stages
from gpt2dsl.weights.formats import mindformers, mindformers_split
from gpt2dsl.weights.formats.config import from_config
from gpt2dsl.weights.infer_config import Overrides

Tensors = dict[str, LazyTensor]


@attrs.frozen
class Joined:
    """The joined tensors of all ranks.

    Attributes:
        kind: description of the files' format.
        tensors: the weights; MindFormers' under its names, optimizer state included.
        states: optimizer state, for our own files: ``m.transformer.wte.weight``.
    """

    kind: str
    tensors: Tensors
    states: Tensors


def joined(found: location.CheckpointLocation, hints: Overrides) -> Joined:
    """Join the tensors of a sharded checkpoint, without reading their values.

    Args:
        found: the location of a sharded checkpoint.
        hints: the strategy files or the layout, if there are none beside the checkpoint.

    Raises:
        InputError: the layout is unknown (G2-307), ranks are missing (G2-301), the strategy is
            damaged (G2-304), or the files contradict it (G2-315).
    """
    formats = [detect_format.stored(file) for file in found.files]
    ranks = [mindformers.own_names(rank_tensors) for _, rank_tensors in formats]
    is_mindformers = any(map(mindformers.is_mindformers, ranks))
    geometry = None if is_mindformers else _geometry(found)
    stages = _stages(found, ranks, hints, geometry)
    _check_ranks(found)
    # The manifest covers the strategy files beside it, but not one named by the user.
    proven = bool(found.checkpoint) and not hints.strategy
    whole = _Joiner(found.files, ranks, proven=proven).join(stages)
    kind = f"{' and '.join(sorted({kind for kind, _ in formats}))} of {len(ranks)} ranks"
    if geometry is None:
        return Joined(kind, whole, {})
    _check_shapes(whole, geometry, found)
    ours = {name: _as_in_whole_files(name, tensor, geometry) for name, tensor in whole.items()}
    states = {name: tensor for name, tensor in ours.items() if checkpoint_tensors.state_of(name)}
    return Joined(
        kind, {name: tensor for name, tensor in ours.items() if name not in states}, states
    )


def _check_ranks(found: location.CheckpointLocation) -> None:
    """Raise an error for a file of ours that is in another rank's folder."""
    for number, file in enumerate(found.files):
        if file.suffix == ".safetensors":
            recorded = tensorfile.metadata(file).get("rank", str(number))
            if recorded != str(number):
                message = f"it is the file of rank {recorded}, and lies in {file.parent.name}"
                raise InputError("G2-315", file, message)


def _check_shapes(whole: Tensors, geometry: GPT2Config, found: location.CheckpointLocation) -> None:
    """Raise an error if the joined shapes are not the network's."""
    shapes = {
        spec.name: checkpoint_tensors.shape_in_files(spec, geometry)
        for spec in param_specs(geometry)
    }
    for name, tensor in whole.items():
        state = checkpoint_tensors.state_of(name)
        shape = shapes.get(name.removeprefix(f"{state}.") if state else name, tensor.shape)
        if tensor.shape != shape:
            message = f"{name} becomes {list(tensor.shape)}, {list(shape)} is the network's"
            raise InputError("G2-315", found.path, f"{message}: the strategy is not of these files")


def _geometry(found: location.CheckpointLocation) -> GPT2Config:
    path = found.folder / location.CONFIG
    return from_config(location.read_json(path), path)


def _stages(
    found: location.CheckpointLocation,
    ranks: Sequence[Tensors],
    hints: Overrides,
    geometry: GPT2Config | None,
) -> Stages:
    """Return the layouts of each pipeline stage, checked against the number of ranks."""
    path = Path(hints.strategy) if hints.strategy else found.strategy
    if path:
        stages = strategyfile.read(path)
    elif hints.split:
        stages = _of_layout(ranks, hints, geometry, found)
    else:
        message = (
            f"it is split over {len(ranks)} ranks, and nothing says how: a folder "
            f"{location.STRATEGY} beside them, --strategy, or --from dp=..,mp=..,pp=.."
        )
        raise InputError("G2-307", found.path, message)
    source = path or found.path
    counts = {layout.count for layouts in stages.values() for layout in layouts.values()}
    if len(counts) != 1 or sorted(stages) != list(range(len(stages))):
        summary = f"stages {sorted(stages)} of {sorted(counts)} ranks"
        raise InputError("G2-304", source, f"its stages do not fit each other: {summary}")
    _check_count(found, len(ranks), len(stages) * counts.pop(), source)
    if path and hints.split:
        _check_named(hints.split, stages, source, is_ours=geometry is not None)
    return stages


def _check_named(split: ParallelDims, stages: Stages, source: Path, *, is_ours: bool) -> None:
    """Raise an error if the user's layout contradicts the strategy files."""
    devices = {layout.devices for layouts in stages.values() for layout in layouts.values()}
    count = len(stages) * math.prod(next(iter(devices)))
    fits = split.count == count and split.pp == len(stages)
    if not fits or (is_ours and devices != {(split.dp, split.mp)}):
        dimensions = " and ".join("x".join(map(str, matrix)) for matrix in sorted(devices))
        named = f"dp={split.dp},mp={split.mp},pp={split.pp}"
        message = (
            f"it is of {count} ranks, {len(stages)} stages of {dimensions}, and {named} was named"
        )
        raise InputError("G2-315", source, message)


def _check_count(
    found: location.CheckpointLocation, there: int, expected: int, source: Path
) -> None:
    if source == found.path and there != expected:
        message = f"it has {there} ranks, the layout that was named {expected}"
        raise InputError("G2-315", source, message)
    if there < expected:
        missing = found.folder / f"rank_{there}"
        message = f"there is no such folder; {source} is of {expected} ranks"
        raise InputError("G2-301", missing, message)
    if there > expected:
        message = f"it is of {expected} ranks, and {found.path} has {there}"
        raise InputError("G2-315", source, message)


def _of_layout(
    ranks: Sequence[Tensors],
    hints: Overrides,
    geometry: GPT2Config | None,
    found: location.CheckpointLocation,
) -> Stages:
    """Return the layouts for dp, mp and pp; the tensors of each stage are those of its files."""
    split = hints.split
    assert split
    if geometry is None and hints.zero:
        message = "how MindFormers shared the optimizer, only its strategy files say: --strategy"
        raise InputError("G2-307", found.path, message)
    _check_count(found, len(ranks), split.count, found.path)
    layouts = {}
    if geometry:
        specs = checkpoint_tensors.filed(
            geometry, split, checkpoint_tensors.STATES, zero=hints.zero
        )
        layouts = {spec.name: spec.layout for spec in specs}
    stages: Stages = {}
    for number, rank_tensors in enumerate(ranks):
        stage = stages.setdefault(number // (split.dp * split.mp), {})
        for name, tensor in rank_tensors.items():
            if geometry is None:
                stage[name] = mindformers_split.layout_of(name, len(tensor.shape), split)
            elif name in layouts:
                stage[name] = layouts[name]
    return stages


@attrs.frozen
class _Joiner:
    """Joiner of the ranks' tensors.

    Attributes:
        files: the files of the ranks.
        ranks: their tensors.
        proven: whether the files are verified, so that replicas need not be compared.
    """

    files: Sequence[Path]
    ranks: Sequence[Tensors]
    proven: bool

    def join(self, stages: Stages) -> Tensors:
        """Return whole tensors by name, with those of several stages tied."""
        whole: Tensors = {}
        for stage, layouts in sorted(stages.items()):
            count = next(iter(layouts.values())).count
            numbers = range(stage * count, (stage + 1) * count)
            for name in dict.fromkeys(name for i in numbers for name in self.ranks[i]):
                tensor = self._of_stage(name, layouts.get(name), numbers)
                whole[name] = self._tied(name, whole[name], tensor) if name in whole else tensor
        return whole

    def _of_stage(self, name: str, layout: TensorLayout | None, numbers: range) -> LazyTensor:
        if lacking := [i for i in numbers if name not in self.ranks[i]]:
            message = f"1 missing: {name}, which rank_{_other(numbers, lacking)} has"
            raise InputError("G2-315", self.files[lacking[0]], message)
        parts = {i: self.ranks[i][name] for i in numbers}
        first = parts[numbers[0]]
        if layout is None:
            if mindformers.is_aside(name):  # a counter, equal on all ranks
                return first
            message = f"the strategy does not know {name}: it is of another network"
            raise InputError("G2-315", self.files[numbers[0]], message)
        for i, part in parts.items():
            if (part.shape, part.kind) != (first.shape, first.kind):
                message = (
                    f"{name} is {list(part.shape)} {part.kind}, and {list(first.shape)} "
                    f"{first.kind} in rank_{numbers[0]}"
                )
                raise InputError("G2-315", self.files[i], message)
        if len(first.shape) != len(layout.axes):
            message = f"{name} is {list(first.shape)}, the strategy has {len(layout.axes)} axes"
            raise InputError("G2-315", self.files[numbers[0]], message)
        return self._assembled(name, layout, parts, numbers[0])

    def _assembled(
        self, name: str, layout: TensorLayout, parts: Mapping[int, LazyTensor], start: int
    ) -> LazyTensor:
        kind, shape = parts[start].kind, layout.whole(parts[start].shape)
        holders: dict[Box, list[int]] = {}
        for i in parts:
            holders.setdefault(layout.box(shape, i - start), []).append(i)
        pieces = []
        for box, replicas in holders.items():
            compared = replicas[:1] if self.proven else replicas
            names = tuple(f"{self.files[i]}: {name}" for i in compared)
            pieces.append(Piece(box, tuple(parts[i] for i in compared), names))
        return _simple(Assembled(kind, shape, tuple(pieces)))

    def _tied(self, name: str, one: LazyTensor, other: LazyTensor) -> LazyTensor:
        """Return a tensor that two pipeline stages share."""
        if one.shape != other.shape or one.kind != other.kind:
            shapes = f"{list(one.shape)} and {list(other.shape)}"
            raise InputError("G2-315", self.files[-1], f"{name} is {shapes} in two stages")
        if self.proven or not one.readable:
            return one
        whole: Box = tuple((0, length) for length in one.shape)
        names = (f"{self.files[0]}: {name}", f"{self.files[-1]}: {name}")
        return Assembled(one.kind, one.shape, (Piece(whole, (one, other), names),))


def _other(numbers: range, lacking: Sequence[int]) -> int:
    return next(i for i in numbers if i not in lacking)


def _simple(tensor: Assembled) -> LazyTensor:
    """Return the only part if it is the whole tensor and has no replicas to compare."""
    only = tensor.pieces[0]
    is_whole = len(tensor.pieces) == 1 and len(only.copies) == 1
    return only.copies[0] if is_whole or not only.copies[0].readable else tensor


def _as_in_whole_files(name: str, tensor: LazyTensor, geometry: GPT2Config) -> LazyTensor:
    """Return a tensor of ours in the shape of whole files, which pad only moments of tables."""
    shape = tensor.shape
    is_cut = name.removeprefix(f"{checkpoint_tensors.MASTER}.") in VOCAB_TABLES
    if is_cut and shape == (geometry.padded_vocab, geometry.hidden):
        return FirstRows(tensor.kind, (geometry.vocab, geometry.hidden), tensor)
    if ".c_attn." in name and len(shape) > 1 and shape[-2] == 3:
        return reshaped(tensor, (*shape[:-2], 3 * shape[-1]))
    return tensor
