"""Lazy whole tensors, assembled from checkpoints sharded over ranks.

The layout comes from MindSpore's strategy files, or from dp, mp and pp. Replicas of a shard must be
equal; they are not compared if a manifest has already verified the files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from gpt2dsl.data.documents import read_json
from gpt2dsl.errors import InputError
from gpt2dsl.layout import checkpoint_tensors
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.params import param_specs
from gpt2dsl.layout.tensor_layout import Box, TensorLayout
from gpt2dsl.schema.folder import CONFIG, STRATEGY
from gpt2dsl.weights.files import detect_format, strategyfile, tensorfile
from gpt2dsl.weights.files.lazy_tensor import LazyTensor
from gpt2dsl.weights.files.pieces import Assembled, Piece, resized
from gpt2dsl.weights.files.strategyfile import Stages
from gpt2dsl.weights.formats import mindformers, mindformers_split
from gpt2dsl.weights.formats.config import from_config
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.location import CheckpointLocation

Tensors = dict[str, LazyTensor]


@attrs.frozen
class StoredTensors:
    """The whole tensors of a location's files.

    Attributes:
        format: description of the files' format.
        tensors: the weights; MindFormers' under its names, optimizer state included.
        states: optimizer state, for our own ranks' files: ``m.transformer.wte.weight``.
    """

    format: str
    tensors: Tensors
    states: Tensors = attrs.field(factory=dict)


def stored(place: CheckpointLocation, overrides: Overrides) -> StoredTensors:
    """Return the tensors at a location: of one file, of shards, or joined from ranks.

    Raises:
        InputError: a file is damaged (G2-304), or a layout is named for weights that are whole
            (G2-315); or as in ``joined``.
    """
    if place.is_split:
        return joined(place, overrides)
    if overrides.strategy or (overrides.split and overrides.split.count > 1):
        raise InputError("G2-315", place.path, "it is whole, not split over ranks")
    tensors: Tensors = {}
    files: dict[str, Path] = {}
    formats = set()
    for file in place.files:
        kind, file_tensors = detect_format.stored(file)
        formats.add(kind)
        for name, tensor in file_tensors.items():
            if name in tensors:
                raise InputError("G2-304", file, f"{name} is in {files[name].name} too")
            tensors[name], files[name] = tensor, file
    for name, file in (place.index or {}).items():
        if files.get(name) != file:
            raise InputError("G2-304", file, f"{name} is not in it, but the index says so")
    shards = f" in {len(place.files)} shards" if len(place.files) > 1 else ""
    return StoredTensors(f"{' and '.join(sorted(formats))}{shards}", mindformers.own_names(tensors))


def joined(place: CheckpointLocation, overrides: Overrides) -> StoredTensors:
    """Join the tensors of a sharded checkpoint, without reading their values.

    Raises:
        InputError: the layout is unknown (G2-307), ranks are missing (G2-301), the strategy is
            damaged (G2-304), or the files contradict it (G2-315).
    """
    formats = [detect_format.stored(file) for file in place.files]
    ranks = [mindformers.own_names(rank_tensors) for _, rank_tensors in formats]
    is_mindformers = any(map(mindformers.is_mindformers, ranks))
    geometry = None if is_mindformers else _geometry(place)
    stages = _stages(place, ranks, overrides, geometry)
    _check_ranks(place)
    # The manifest covers the strategy files beside it, but not one named by the user.
    proven = bool(place.checkpoint) and not overrides.strategy
    joined_tensors = _Joiner(place.files, ranks, proven=proven).join(stages)
    kind = f"{' and '.join(sorted({kind for kind, _ in formats}))} of {len(ranks)} ranks"
    if geometry is None:
        return StoredTensors(kind, joined_tensors)
    weights: Tensors = {}
    states: Tensors = {}
    for name, tensor in _in_whole_files(joined_tensors, geometry, place):
        (states if checkpoint_tensors.state_of(name) else weights)[name] = tensor
    return StoredTensors(kind, weights, states)


def _check_ranks(place: CheckpointLocation) -> None:
    """Raise an error for a file of ours that is in another rank's folder."""
    for number, file in enumerate(place.files):
        if file.suffix == ".safetensors":
            recorded = tensorfile.metadata(file).get("rank", str(number))
            if recorded != str(number):
                message = f"it is the file of rank {recorded}, and lies in {file.parent.name}"
                raise InputError("G2-315", file, message)


def _in_whole_files(
    tensors: Tensors, geometry: GPT2Config, place: CheckpointLocation
) -> Iterator[tuple[str, LazyTensor]]:
    """Yield tensors of ours in the shapes of whole files.

    Raises:
        InputError: a joined shape is not the network's (G2-306).
    """
    specs = {spec.name: spec for spec in param_specs(geometry)}
    for name, tensor in tensors.items():
        state = checkpoint_tensors.state_of(name)
        spec = specs.get(name.removeprefix(f"{state}.") if state else name)
        if spec is None:
            yield name, tensor
            continue
        shape = checkpoint_tensors.shape_in_files(spec, geometry)
        if tensor.shape != shape:
            message = f"{name} becomes {list(tensor.shape)}, {list(shape)} is the network's"
            raise InputError("G2-315", place.path, f"{message}: the strategy is not of these files")
        whole = checkpoint_tensors.shape_in_whole_files(spec, geometry, state)
        yield name, resized(tensor, whole)


def _geometry(place: CheckpointLocation) -> GPT2Config:
    path = place.folder / CONFIG
    return from_config(read_json(path), path)


def _stages(
    place: CheckpointLocation,
    ranks: Sequence[Tensors],
    overrides: Overrides,
    geometry: GPT2Config | None,
) -> Stages:
    """Return the layouts of each pipeline stage, checked against the number of ranks."""
    path = Path(overrides.strategy) if overrides.strategy else place.strategy
    if path:
        stages = strategyfile.read(path)
    elif overrides.split:
        stages = _of_layout(ranks, overrides, geometry, place)
    else:
        message = (
            f"it is split over {len(ranks)} ranks, and nothing says how: a folder "
            f"{STRATEGY} beside them, or gpt2dsl reshard --strategy or --from dp=..,mp=..,pp=.. "
            "(source_strategy or source_layout of its recipe)"
        )
        raise InputError("G2-307", place.path, message)
    source = path or place.path
    counts = {layout.count for layouts in stages.values() for layout in layouts.values()}
    if len(counts) != 1 or sorted(stages) != list(range(len(stages))):
        summary = f"stages {sorted(stages)} of {sorted(counts)} ranks"
        raise InputError("G2-304", source, f"its stages do not fit each other: {summary}")
    _check_count(place, len(ranks), len(stages) * counts.pop(), source)
    if path and overrides.split:
        _check_named(overrides.split, stages, source, is_ours=geometry is not None)
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


def _check_count(place: CheckpointLocation, count: int, expected: int, source: Path) -> None:
    if source == place.path and count != expected:
        message = f"it has {count} ranks, the layout that was named {expected}"
        raise InputError("G2-315", source, message)
    if count < expected:
        missing = place.folder / f"rank_{count}"
        message = f"there is no such folder; {source} is of {expected} ranks"
        raise InputError("G2-301", missing, message)
    if count > expected:
        message = f"it is of {expected} ranks, and {place.path} has {count}"
        raise InputError("G2-315", source, message)


def _of_layout(
    ranks: Sequence[Tensors],
    overrides: Overrides,
    geometry: GPT2Config | None,
    place: CheckpointLocation,
) -> Stages:
    """Return the layouts for dp, mp and pp; the tensors of each stage are those of its files."""
    split = overrides.split
    assert split
    if geometry is None and overrides.zero:
        message = (
            "how MindFormers shared the optimizer, only its strategy files say: "
            "task.source_strategy"
        )
        raise InputError("G2-307", place.path, message)
    _check_count(place, len(ranks), split.count, place.path)
    layouts = {}
    if geometry:
        specs = checkpoint_tensors.filed(
            geometry, split, checkpoint_tensors.STATES, zero=overrides.zero
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
    """Joiner of the ranks' tensors; with ``proven`` files, replicas need not be compared."""

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

    def _tied(self, name: str, first: LazyTensor, last: LazyTensor) -> LazyTensor:
        """Return a tensor that two pipeline stages share."""
        if first.shape != last.shape or first.kind != last.kind:
            shapes = f"{list(first.shape)} and {list(last.shape)}"
            raise InputError("G2-315", self.files[-1], f"{name} is {shapes} in two stages")
        if self.proven or not first.readable:
            return first
        box: Box = tuple((0, length) for length in first.shape)
        names = (f"{self.files[0]}: {name}", f"{self.files[-1]}: {name}")
        return Assembled(first.kind, first.shape, (Piece(box, (first, last), names),))


def _other(numbers: range, lacking: Sequence[int]) -> int:
    return next(i for i in numbers if i not in lacking)


def _simple(tensor: Assembled) -> LazyTensor:
    """Return the only part if it is the whole tensor and has no replicas to compare."""
    only = tensor.pieces[0]
    is_whole = len(tensor.pieces) == 1 and len(only.copies) == 1
    return only.copies[0] if is_whole or not only.copies[0].readable else tensor
