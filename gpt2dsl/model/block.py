"""A transformer block of GPT-2: pre-norm attention and MLP over two-dimensional activations.

A block owns no parameters: they are arguments, so one compiled graph serves all layers. It returns
its saved activations, which the backward pass reuses instead of recomputing them.
Letters in shapes: b rows of the batch, t tokens per row, n heads, d head width, h = n d. With
tensor parallelism, n and the inner width are this rank's; with sequence parallelism, so is the
number of rows outside attention and MLP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn

from gpt2dsl.distributed.collectives import (
    all_reduce_grad,
    all_reduce_sequence_grad,
    copy_to_tensor_parallel_region,
    reduce_from_tensor_parallel_region,
)
from gpt2dsl.distributed.process_groups import TensorParallelGroup
from gpt2dsl.kernels.activation import activation
from gpt2dsl.kernels.dropout import Dropout
from gpt2dsl.kernels.layer_norm import KnownLayerNorm, LayerNorm
from gpt2dsl.kernels.linear import Bias, MatMul
from gpt2dsl.kernels.mixed_precision import MixedPrecision
from gpt2dsl.kernels.reuse_activation import ReuseActivation
from gpt2dsl.kernels.softmax import Softmax
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import THIRDS, LoRASpec
from gpt2dsl.layout.precision import PrecisionPolicy
from gpt2dsl.layout.shard_spec import is_column
from gpt2dsl.model import dropout_masks
from gpt2dsl.model.saved_activations import SavedActivations

Tensors = tuple[Tensor, ...]


@attrs.frozen
class ParamSlots:
    """Positions of a block's parameters and dropout masks in the tuples passed to it.

    Attributes:
        weights: parameter name within the block → position.
        adapters: the block's LoRA adapters.
        masks: adapter name → position of its dropout mask.
        keep: keep probability of the adapters' dropout masks; 1 without dropout.
        shard: this rank's tensor parallel group.
        scale: position of this layer's extra factor on attention scores; None without one.
    """

    weights: Mapping[str, int]
    adapters: Sequence[LoRASpec]
    masks: Mapping[str, int]
    keep: float
    shard: TensorParallelGroup
    scale: int | None = None


class LoRA(nn.Cell):
    """One LoRA adapter (Hu et al. 2021): ``scale B A dropout(x)``, in float32.

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
        whole, cut = all_reduce_grad(slots.shard), nn.Identity()
        self.of_a, self.of_b = (whole, cut) if is_column(adapter.module) else (cut, whole)

    def construct(self, x: Tensor, weights: Tensors, kept: Tensors) -> Tensor:
        """``[rows, in] → [rows, out]``."""
        if kept and self.drops:
            x = self.dropout(x, kept[self.mask])
        inner = self.product_bt(x, self.of_a(weights[self.a]))  # [rows, in] [r, in]ᵀ
        y = self.product_bt(inner, self.of_b(weights[self.b]))  # [rows, r] [out, r]ᵀ
        return y * self.scale


class NoAdapter(nn.Cell):
    """Zeros for a q, k or v slice that has no adapter."""

    def __init__(self, width: int) -> None:
        super().__init__(auto_prefix=False)
        self.width = width
        self.zeros = P.Zeros()

    def construct(self, x: Tensor, weights: Tensors, kept: Tensors) -> Tensor:
        """``[rows, h] → [rows, width]``."""
        return self.zeros((x.shape[0], self.width), ms.float32)


class QKVLoRA(nn.Cell):
    """Separate adapters for c_attn's q, k and v slices, with their outputs concatenated."""

    def __init__(self, adapters: Sequence[LoRASpec], slots: ParamSlots) -> None:
        super().__init__(auto_prefix=False)
        loras = {adapter.third: LoRA(adapter, slots) for adapter in adapters}
        nothing = NoAdapter(adapters[0].outputs // slots.shard.mp)
        self.q, self.k, self.v = (loras.get(third, nothing) for third in THIRDS)
        self.concat = P.Concat(1)

    def construct(self, x: Tensor, weights: Tensors, kept: Tensors) -> Tensor:
        """``[rows, h] → [rows, 3 h]``."""
        q, k = self.q(x, weights, kept), self.k(x, weights, kept)
        return self.concat((q, k, self.v(x, weights, kept)))


class Linear(nn.Cell):
    """A linear of the block with its LoRA adapters.

    c_attn and c_fc are column-parallel (sharded by outputs); c_proj is row-parallel (sharded by
    inputs): its partial outputs are all-reduced.
    """

    def __init__(self, module: str, slots: ParamSlots, precision: PrecisionPolicy) -> None:
        super().__init__(auto_prefix=False)
        self.w, self.b = slots.weights[f"{module}.weight"], slots.weights[f"{module}.bias"]
        self.product, self.bias = MatMul(precision), Bias(precision)
        shared, alone = slots.shard, nn.Identity()
        column = is_column(module)
        self.leave = alone if column else reduce_from_tensor_parallel_region(shared)
        self.of_b = alone if column else all_reduce_sequence_grad(shared)
        matching = [adapter for adapter in slots.adapters if adapter.module.endswith(module)]
        self.is_adapted = bool(matching)
        if matching:
            self.added = QKVLoRA(matching, slots) if matching[0].third else LoRA(matching[0], slots)

    def construct(self, x: Tensor, weights: Tensors, kept: Tensors) -> Tensor:
        """``[rows, in] → [rows, out]``."""
        y = self.product(x, weights[self.w])
        if self.is_adapted:
            y = y + self.added(x, weights, kept)
        return self.bias(self.leave(y), self.of_b(weights[self.b]))


class AttentionCore(nn.Cell):
    """Scaled dot-product attention: scores, softmax, weighted sum of the values."""

    def __init__(self, geometry: GPT2Config, precision: PrecisionPolicy) -> None:
        super().__init__(auto_prefix=False)
        self.numbers = MixedPrecision(precision)
        self.scores = P.BatchMatMul(transpose_b=True)
        self.mix = P.BatchMatMul()
        self.softmax = Softmax()
        self.upcasts = geometry.upcast_attention
        probability = geometry.dropouts.attention
        self.drops, self.dropout = probability > 0, Dropout(dropout_masks.keep(probability))

    def construct(
        self, q: Tensor, mask: Tensor, keys_values: Tensors, kept: Tensors, saved: Tensors
    ) -> tuple[Tensor, Tensor]:
        """``[b n, t, d], [b n, t, s], 2 x [b n, s, d] → [b n, t, d]``, probabilities.

        ``kept`` is empty or one dropout mask; ``saved`` is empty or the saved probabilities.
        """
        numbers = self.numbers
        k, v = keys_values
        if not self.upcasts:
            q, k = numbers.narrow(q), numbers.narrow(k)
        scores = numbers.wide(self.scores(q, k))  # [b n, t, s]
        p = self.softmax(scores + mask, saved)
        mixed = self.dropout(p, kept[0]) if kept and self.drops else p
        return numbers.wide(self.mix(numbers.narrow(mixed), numbers.narrow(v))), p


class Attention(nn.Cell):
    """Causal self-attention."""

    def __init__(self, geometry: GPT2Config, slots: ParamSlots, precision: PrecisionPolicy) -> None:
        super().__init__(auto_prefix=False)
        self.heads, self.width = geometry.heads // slots.shard.mp, geometry.head_width
        self.scale = 1 / math.sqrt(self.width) if geometry.scale_attention else 1.0
        self.by_layer, self.of_layer = slots.scale is not None, slots.scale or 0
        self.c_attn = Linear("attn.c_attn", slots, precision)
        self.c_proj = Linear("attn.c_proj", slots, precision)
        self.core = AttentionCore(geometry, precision)
        self.enter, self.recall = copy_to_tensor_parallel_region(slots.shard), ReuseActivation()
        self.split = P.Split(-1, 3)
        self.transpose = P.Transpose()

    def by_head(self, x: Tensor, batch: int) -> Tensor:
        """``[b t, h] → [b n, t, d]``."""
        x = x.reshape((batch, -1, self.heads, self.width))  # [b, t, n, d]
        return self.transpose(x, (0, 2, 1, 3)).reshape((batch * self.heads, -1, self.width))

    def merged(self, x: Tensor, batch: int) -> Tensor:
        """``[b n, t, d] → [b t, h]``."""
        x = x.reshape((batch, self.heads, -1, self.width))  # [b, n, t, d]
        return self.transpose(x, (0, 2, 1, 3)).reshape((-1, self.heads * self.width))

    def project(
        self, x: Tensor, batch: int, weights: Tensors, kept: Tensors
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return scaled queries, keys and values: ``[b t, h] → 3 x [b n, t, d]``."""
        q, k, v = self.split(self.c_attn(x, weights, kept))  # 3 x [b t, h]
        if self.by_layer:
            q = q * weights[self.of_layer]
        return self.by_head(q * self.scale, batch), self.by_head(k, batch), self.by_head(v, batch)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, weights: Tensors) -> Tensor:
        """Attend without dropout: ``[b n, t, d], 2 x [b n, s, d], [b n, t, s] → [b t, h]``."""
        context, _ = self.core(q, mask, (k, v), (), ())  # [b n, t, d]
        return self.c_proj(self.merged(context, q.shape[0] // self.heads), weights, ())

    def construct(
        self,
        x: Tensor,
        mask: Tensor,
        weights: Tensors,
        kept: Tensors,
        saved: Tensors,
        probabilities: Tensors,
    ) -> tuple[Tensor, Tensors, Tensor]:
        """``[b t, h], [b n, t, t] → [b t, h]``, saved activations, probabilities."""
        batch = mask.shape[0] // self.heads
        x = self.recall(self.enter(x), saved[:1])
        q, k, v = self.project(x, batch, weights, kept)  # 3 x [b n, t, d]
        q, k = self.recall(q, saved[1:2]), self.recall(k, saved[2:3])
        v = self.recall(v, saved[3:4])
        context, p = self.core(q, mask, (k, v), kept[:1], probabilities)  # [b n, t, d]
        context = self.recall(self.merged(context, batch), saved[4:5])  # [b t, h]
        return self.c_proj(context, weights, kept), (x, q, k, v, context), p


class MLP(nn.Cell):
    """Two linears with an activation between them."""

    def __init__(self, geometry: GPT2Config, slots: ParamSlots, precision: PrecisionPolicy) -> None:
        super().__init__(auto_prefix=False)
        self.c_fc = Linear("mlp.c_fc", slots, precision)
        self.c_proj = Linear("mlp.c_proj", slots, precision)
        self.activation = activation(geometry.activation)
        self.enter, self.recall = copy_to_tensor_parallel_region(slots.shard), ReuseActivation()

    def construct(
        self, x: Tensor, weights: Tensors, kept: Tensors, saved: Tensors
    ) -> tuple[Tensor, Tensors]:
        """``[b t, h] → [b t, h]``, saved activations."""
        x = self.recall(self.enter(x), saved[:1])
        inner = self.recall(self.c_fc(x, weights, kept), saved[1:2])  # [b t, inner]
        return self.c_proj(self.activation(inner), weights, kept), (x, inner)


class BlockNorm(nn.Cell):
    """A layer norm of the block.

    Each weight has its own cell to all-reduce its gradient: MindSpore 2.10 mistakes a second
    Parameter of the same shape that passes through one cell for the first.
    """

    def __init__(
        self, name: str, geometry: GPT2Config, slots: ParamSlots, precision: PrecisionPolicy
    ) -> None:
        super().__init__(auto_prefix=False)
        self.g, self.b = slots.weights[f"{name}.weight"], slots.weights[f"{name}.bias"]
        self.of_g, self.of_b = (
            all_reduce_sequence_grad(slots.shard),
            all_reduce_sequence_grad(slots.shard),
        )
        self.norm = LayerNorm(geometry.epsilon, precision)
        self.known = KnownLayerNorm(self.norm)

    def construct(self, x: Tensor, weights: Tensors, moments: Tensors) -> tuple[Tensor, Tensors]:
        """``[b t, h] → [b t, h]``, mean, variance; ``moments``: empty, or both if saved."""
        g, b = self.of_g(weights[self.g]), self.of_b(weights[self.b])
        if moments:
            y, mean, variance = self.known(x, g, b, moments[0], moments[1])
        else:
            y, mean, variance = self.norm(x, g, b)
        return y, (mean, variance)


class Block(nn.Cell):
    """A pre-norm transformer block: norm, attention, residual; norm, MLP, residual.

    Args:
        geometry: the network's configuration.
        slots: positions of parameters and dropout masks.
        precision: the precision policy.
    """

    def __init__(self, geometry: GPT2Config, slots: ParamSlots, precision: PrecisionPolicy) -> None:
        super().__init__(auto_prefix=False)
        self.norm_1 = BlockNorm("ln_1", geometry, slots, precision)
        self.norm_2 = BlockNorm("ln_2", geometry, slots, precision)
        self.attention = Attention(geometry, slots, precision)
        self.mlp = MLP(geometry, slots, precision)
        drops = geometry.dropouts
        self.drops, self.after_attention = drops.residual > 0, 1 if drops.attention else 0
        self.dropout, self.recall = Dropout(dropout_masks.keep(drops.residual)), ReuseActivation()
        self.activations = SavedActivations(auto_prefix=False)

    def dropped(self, x: Tensor, kept: Tensors, place: int) -> Tensor:
        """Apply the block's dropout mask at ``place``, if dropout is on."""
        if kept and self.drops:
            x = self.dropout(x, kept[place])
        return x

    def finished(self, x: Tensor, weights: Tensors) -> Tensor:
        """Apply the MLP half of the block without dropout: ``[b t, h] → [b t, h]``."""
        normal, _ = self.norm_2(x, weights, ())
        update, _ = self.mlp(normal, weights, (), ())
        return x + update

    def construct(
        self, x: Tensor, mask: Tensor, weights: Tensors, kept: Tensors = (), saved: Tensors = ()
    ) -> tuple[Tensor, Tensors]:
        """``[b t, h] → [b t, h]``, and the saved activations.

        Args:
            x: hidden states.
            mask: attention mask ``[b n, t, t]``, added to the scores.
            weights: the block's parameters, ordered as in its slots.
            kept: the block's dropout masks, or nothing.
            saved: activations saved by the forward pass with the same arguments, or nothing.
        """
        activations = self.activations
        normal, moments_1 = self.norm_1(x, weights, activations.norm_1(saved))
        attended, attention_saved, p = self.attention(
            normal,
            mask,
            weights,
            kept,
            activations.attention(saved),
            activations.probabilities(saved),
        )
        middle = self.recall(
            x + self.dropped(attended, kept, self.after_attention), activations.residual(saved)
        )  # [b t, h]
        normal, moments_2 = self.norm_2(middle, weights, activations.norm_2(saved))
        update, mlp_saved = self.mlp(normal, weights, kept, activations.mlp(saved))
        y = middle + self.dropped(update, kept, self.after_attention + 1)
        return y, activations.packed(moments_1, attention_saved, middle, moments_2, mlp_saved, p)
