"""The file of one rank in a distributed checkpoint: the boxes of tensors that its layout gives it.

A rank writes its file from the shards of its network, without knowing those of other ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gpt2dsl.files import atomic
from gpt2dsl.layout.checkpoint_tensors import CheckpointTensorSpec
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.tensor_layout import Box
from gpt2dsl.schema.folder import STRATEGY, WEIGHTS
from gpt2dsl.weights.files import strategyfile, tensorfile
from gpt2dsl.weights.files.lazy_tensor import LazyTensor

Table = Sequence[CheckpointTensorSpec]


def name_of(rank: int) -> str:
    """Return the path of a rank's file within the checkpoint."""
    return f"rank_{rank}/{WEIGHTS}"


def holds(spec: CheckpointTensorSpec, ranks: ParallelDims, rank: int) -> bool:
    """Return whether a rank's file has a part of a tensor."""
    return ranks.coordinates(rank).stage in spec.stages


def box_of(spec: CheckpointTensorSpec, rank: int) -> Box:
    """Return the slice of a tensor in a rank's file."""
    return spec.layout.box(spec.shape, rank % spec.layout.count)


def part_of(
    spec: CheckpointTensorSpec, shard: NDArray[Any], ranks: ParallelDims, rank: int
) -> NDArray[Any]:
    """Return the part of a tensor in a rank's file, as a view of the shard of its network.

    Args:
        spec: the tensor.
        shard: the rank's shard, with the rows of all replicas or of this one alone.
        ranks: dp, mp and pp.
        rank: the rank.

    Raises:
        ValueError: the shard is neither.
    """
    shape = tuple(last - first for first, last in box_of(spec, rank))
    if shard.size == math.prod(shape):
        return shard.reshape(shape)
    if shard.size != math.prod(shape) * ranks.dp:
        raise ValueError(f"{spec.name}: the shard is {list(shard.shape)}, its part {list(shape)}")
    first = ranks.coordinates(rank).replica * shape[0]
    return shard.reshape(-1, *shape[1:])[first : first + shape[0]]


def write(folder: Path, rank: int, parts: Mapping[str, LazyTensor]) -> dict[str, str]:
    """Write and sync the file of a rank; return file → checksum.

    Raises:
        OSError: the disk is full or not writable.
    """
    file = folder / name_of(rank)
    file.parent.mkdir()
    digest = tensorfile.write(file, parts, rank=str(rank))
    for path in (file, file.parent):
        atomic.sync(path)
    return {name_of(rank): digest}


def write_strategies(folder: Path, table: Table, ranks: ParallelDims) -> None:
    """Write the strategy files of all ranks; raises as ``write`` does."""
    (folder / STRATEGY).mkdir()
    strategyfile.write(folder / STRATEGY, table, ranks)
