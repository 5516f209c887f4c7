"""Tensor parallel sharding of parameters, for the network, files and plans alike.

Column-parallel linears are sharded by outputs, row-parallel ones by inputs, the word table by rows
(Shoeybi et al. 2019, Megatron-LM). c_attn's queries, keys and values are each sharded by heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec
from gpt2dsl.layout.params import param_specs
from gpt2dsl.layout.tensor_layout import Shape

COLUMNS = ("attn.c_attn", "mlp.c_fc")
"""Column-parallel linears, sharded by outputs; the others are row-parallel, sharded by inputs."""


@attrs.frozen
class ShardSpec:
    """Sharding of one tensor.

    Attributes:
        axis: sharded axis; None if the tensor is replicated.
        groups: number of equal groups along that axis, each sharded separately.
    """

    axis: int | None = None
    groups: int = 1

    def shape(self, whole: Shape, mp: int) -> Shape:
        """Return the shape of a rank's shard."""
        if self.axis is None:
            return whole
        return (*whole[: self.axis], whole[self.axis] // mp, *whole[self.axis + 1 :])

    def cut(self, whole: Any, mp: int, shard: int) -> Any:
        """Return a rank's shard of an array."""
        if self.axis is None or mp == 1:
            return whole
        return self._view(whole, mp, shard).reshape(self.shape(whole.shape, mp))

    def put(self, whole: Any, part: Any, mp: int, shard: int) -> None:
        """Write a rank's shard to its place in a contiguous array."""
        if self.axis is None or mp == 1:
            whole[...] = part
            return
        view = self._view(whole, mp, shard)
        view[...] = part.reshape(view.shape)

    def slices(
        self, whole: Shape, mp: int, shard: int, rows: range | None = None
    ) -> Iterator[ShardSlice]:
        """Yield the slices of a tensor that make up a rank's shard, or some rows of the shard.

        Args:
            whole: the tensor's shape.
            mp: number of tensor parallel ranks.
            shard: index of this one.
            rows: the rows of the shard, such as ZeRO's; None for all.
        """
        axis, cuts = (0, 1) if self.axis is None else (self.axis, mp)
        groups = self.groups if cuts > 1 else 1
        size = whole[axis] // groups // cuts
        rows = range(self.shape(whole, cuts)[0]) if rows is None else rows
        for group in range(groups):
            start, place = (group * cuts + shard % cuts) * size, group * size
            if axis:
                between = (slice(None),) * (axis - 1)
                yield ShardSlice(
                    (slice(rows.start, rows.stop), *between, slice(start, start + size)),
                    (slice(0, len(rows)), *between, slice(place, place + size)),
                )
            elif own := range(max(place, rows.start), min(place + size, rows.stop)):
                first, last = own.start - place, own.stop - place
                place -= rows.start
                yield ShardSlice(
                    (slice(start + first, start + last),), (slice(place + first, place + last),)
                )

    def _view(self, whole: Any, mp: int, shard: int) -> Any:
        assert self.axis is not None
        before, length, after = _around(whole.shape, self.axis)
        group = length // self.groups  # length of a group
        grouped = whole.reshape((before, self.groups, group, after))
        size = group // mp
        return grouped[:, :, shard * size : (shard + 1) * size]


@attrs.frozen
class ShardSlice:
    """A slice of a whole tensor, and its place in a rank's shard."""

    whole: tuple[slice, ...]
    shard: tuple[slice, ...]


WHOLE = ShardSpec()


def shard_specs(config: GPT2Config, adapters: Sequence[LoRASpec] = ()) -> Mapping[str, ShardSpec]:
    """Return the sharding of every parameter, by name."""
    specs = {tensor.name: ShardSpec(tensor.split, tensor.fused) for tensor in param_specs(config)}
    for adapter in adapters:
        specs |= _of_adapter(adapter)
    return specs


def _of_adapter(adapter: LoRASpec) -> dict[str, ShardSpec]:
    """Return the sharding of ``A [rank, inputs]`` and ``B [outputs, rank]``, as their linear's."""
    a, b = adapter.shapes
    if is_column(adapter.module):
        whole_c_attn = adapter.module.endswith("c_attn") and not adapter.third
        return {a: WHOLE, b: ShardSpec(0, 3 if whole_c_attn else 1)}
    return {a: ShardSpec(1), b: WHOLE}


def has_equal_rows(shape: Shape, replicas: int) -> bool:
    """Return whether replicas can shard a tensor by equal rows: ZeRO's rule, and that of files.

    ``shape`` is that of files; ``shape_by_rows`` returns it for a shard of the network.
    """
    return replicas > 1 and shape[0] % replicas == 0


def shape_by_rows(name: str, part: Shape) -> Shape:
    """Return a shard's shape with the rows of its file, of which c_attn's bias has three."""
    if len(part) == 1 and ".c_attn." in name:
        return (3, part[0] // 3)
    return part


def is_column(module: str) -> bool:
    """Return whether a linear is column-parallel (sharded by outputs)."""
    return module.endswith(COLUMNS)


def _around(shape: Shape, axis: int) -> tuple[int, int, int]:
    before = after = 1
    for length in shape[:axis]:
        before *= length
    for length in shape[axis + 1 :]:
        after *= length
    return before, shape[axis], after
