"""LoRA adapters (Hu et al. 2021), added to the linears of a block.

Like a block, they take their parameters as arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn

from gpt2dsl.distributed.collectives import all_reduce_grad
from gpt2dsl.kernels.dropout import Dropout
from gpt2dsl.layout.lora import THIRDS, LoRASpec
from gpt2dsl.layout.shard_spec import is_column
from gpt2dsl.model.parameters import ParamSlots

Tensors = tuple[Tensor, ...]


class LoRALayer(nn.Cell):
    """One adapter: ``scale B A dropout(x)``, in float32.

    One factor is sharded along with its linear; the other is replicated, and its partial gradients
    are all-reduced.
    """

    def __init__(self, adapter: LoRASpec, slots: ParamSlots) -> None:
        super().__init__(auto_prefix=False)
        name = adapter.name.split(".", 3)[3]
        self.a, self.b = slots.weights[f"{name}.lora_A"], slots.weights[f"{name}.lora_B"]
        self.scale = adapter.scale
        self.drops, self.mask = slots.keep < 1, slots.masks[adapter.name]
        self.dropout = Dropout(slots.keep)
        self.product_bt = P.MatMul(transpose_b=True)
        replicated, sharded = all_reduce_grad(slots.tensor_group), nn.Identity()
        is_b_sharded = is_column(adapter.module)
        self.sync_a, self.sync_b = (replicated, sharded) if is_b_sharded else (sharded, replicated)

    def construct(self, x: Tensor, weights: Tensors, dropout_masks: Tensors) -> Tensor:
        """``[rows, in] → [rows, out]``."""
        if dropout_masks and self.drops:
            x = self.dropout(x, dropout_masks[self.mask])
        x = self.product_bt(x, self.sync_a(weights[self.a]))  # [rows, in] [r, in]ᵀ
        y = self.product_bt(x, self.sync_b(weights[self.b]))  # [rows, r] [out, r]ᵀ
        return y * self.scale


class NoAdapter(nn.Cell):
    """Zeros for a q, k or v slice that has no adapter."""

    def __init__(self, width: int) -> None:
        super().__init__(auto_prefix=False)
        self.width = width
        self.zeros = P.Zeros()

    def construct(self, x: Tensor, weights: Tensors, dropout_masks: Tensors) -> Tensor:
        """``[rows, h] → [rows, width]``."""
        return self.zeros((x.shape[0], self.width), ms.float32)


class QKVLoRA(nn.Cell):
    """Separate adapters for c_attn's q, k and v slices, with their outputs concatenated."""

    def __init__(self, adapters: Sequence[LoRASpec], slots: ParamSlots) -> None:
        super().__init__(auto_prefix=False)
        by_slice = {adapter.third: LoRALayer(adapter, slots) for adapter in adapters}
        no_adapter = NoAdapter(adapters[0].outputs // slots.tensor_group.size)
        self.q, self.k, self.v = (by_slice.get(third, no_adapter) for third in THIRDS)
        self.concat = P.Concat(1)

    def construct(self, x: Tensor, weights: Tensors, dropout_masks: Tensors) -> Tensor:
        """``[rows, h] → [rows, 3 h]``."""
        q, k = self.q(x, weights, dropout_masks), self.k(x, weights, dropout_masks)
        return self.concat((q, k, self.v(x, weights, dropout_masks)))


def lora(module: str, slots: ParamSlots) -> nn.Cell | None:
    """Return what is added to a linear of the block; None if it has no adapter."""
    adapters = [adapter for adapter in slots.adapters if adapter.module.endswith(module)]
    if not adapters:
        return None
    return QKVLoRA(adapters, slots) if adapters[0].third else LoRALayer(adapters[0], slots)
