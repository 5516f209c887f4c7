"""How tensors are cut over the ranks that share layers: the network, files and plans agree on it.

Column linears are cut by outputs, row linears by inputs, the word table by rows (Shoeybi et al.
2019, Megatron-LM). c_attn's outputs are queries, keys and values, each of which is cut by heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec
from gpt2dsl.layout.params import param_specs
from gpt2dsl.layout.tensor_layout import Shape

COLUMNS = ("attn.c_attn", "mlp.c_fc")
"""Linears that are cut by outputs; the others are cut by inputs."""


@attrs.frozen
class ShardSpec:
    """How one tensor is cut.

    Attributes:
        axis: that is cut; None where every rank holds the whole.
        groups: equal parts of that axis, each of which is cut by itself.
    """

    axis: int | None = None
    groups: int = 1

    def shape(self, whole: Shape, mp: int) -> Shape:
        """Of a rank's part."""
        if self.axis is None:
            return whole
        return (*whole[: self.axis], whole[self.axis] // mp, *whole[self.axis + 1 :])

    def cut(self, whole: Any, mp: int, shard: int) -> Any:
        """Return a rank's part of an array."""
        if self.axis is None or mp == 1:
            return whole
        return self._view(whole, mp, shard).reshape(self.shape(whole.shape, mp))

    def put(self, whole: Any, part: Any, mp: int, shard: int) -> None:
        """Write a rank's part to its place in an array that is contiguous."""
        if self.axis is None or mp == 1:
            whole[...] = part
            return
        view = self._view(whole, mp, shard)
        view[...] = part.reshape(view.shape)

    def _view(self, whole: Any, mp: int, shard: int) -> Any:
        assert self.axis is not None
        before, length, after = _around(whole.shape, self.axis)
        inner = length // self.groups  # of a group
        grouped = whole.reshape((before, self.groups, inner, after))
        size = inner // mp
        return grouped[:, :, shard * size : (shard + 1) * size]


WHOLE = ShardSpec()


def shard_specs(geometry: GPT2Config, adapters: Sequence[LoRASpec] = ()) -> Mapping[str, ShardSpec]:
    """Of every parameter, by name."""
    found = {
        tensor.name: ShardSpec(tensor.split, 3 if ".c_attn." in tensor.name else 1)
        for tensor in param_specs(geometry)
    }
    for one in adapters:
        found |= _of_adapter(one)
    return found


def _of_adapter(adapter: LoRASpec) -> dict[str, ShardSpec]:
    """``A [rank, inputs]``, ``B [outputs, rank]``: cut where their linear is."""
    a, b = adapter.shapes
    if is_column(adapter.module):
        whole_c_attn = adapter.module.endswith("c_attn") and not adapter.third
        return {a: WHOLE, b: ShardSpec(0, 3 if whole_c_attn else 1)}
    return {a: ShardSpec(1), b: WHOLE}


def has_equal_rows(shape: Shape, copies: int) -> bool:
    """Whether copies can share a tensor out by rows: the rule of ZeRO-1's optimizer state."""
    return copies > 1 and shape[0] % copies == 0


def is_column(module: str) -> bool:
    """Return whether a linear is cut by outputs."""
    return module.endswith(COLUMNS)


def _around(shape: Shape, axis: int) -> tuple[int, int, int]:
    before = after = 1
    for length in shape[:axis]:
        before *= length
    for length in shape[axis + 1 :]:
        after *= length
    return before, shape[axis], after
