"""GPT-2 (Radford et al. 2019), from token ids to logits: embeddings, blocks, final norm, head.

One forward pass serves training, evaluation and decoding. Embeddings and blocks own no parameters:
they are arguments, so one compiled graph serves all layers. A block returns its saved activations,
which the backward pass reuses instead of recomputing them, and which have a prompt's keys and
values. Dropout is applied where masks are given.

Letters in shapes: b rows of the batch, t tokens per row, s positions of keys (t, or the length of
the KV cache), n heads, d head width, h = n d, v padded vocabulary. With tensor parallelism, n, v
and the intermediate size are this rank's; with sequence parallelism, so is the number of rows
outside attention and MLP.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Parameter, ParameterTuple, Tensor, nn

from gpt2dsl.backend import device
from gpt2dsl.backend.memory import free_unused
from gpt2dsl.distributed.collectives import (
    all_reduce_sequence_grad,
    copy_to_tensor_parallel_region,
    gather_sequence,
    local_vocab_ids,
    reduce_from_tensor_parallel_region,
    scatter_sequence,
)
from gpt2dsl.distributed.process_groups import (
    NO_PIPELINE,
    NO_TENSOR_PARALLEL,
    PipelineGroup,
    TensorParallelGroup,
)
from gpt2dsl.kernels.activation import activation
from gpt2dsl.kernels.dropout import Dropout
from gpt2dsl.kernels.layer_norm import KnownLayerNorm, LayerNorm
from gpt2dsl.kernels.linear import Bias, MatMul
from gpt2dsl.kernels.lm_head import MASKED, lm_head
from gpt2dsl.kernels.mixed_precision import MixedPrecision, StraightThroughRound
from gpt2dsl.kernels.reuse_activation import ReuseActivation
from gpt2dsl.kernels.softmax import Softmax
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec
from gpt2dsl.layout.params import LN_F, WPE, WTE, head_of
from gpt2dsl.layout.precision import FLOAT32, PrecisionPolicy
from gpt2dsl.layout.shard_spec import is_column
from gpt2dsl.model.dropout_masks import keep
from gpt2dsl.model.lora import lora
from gpt2dsl.model.parameters import LayerParameters, ParamSlots, ShardedParameters
from gpt2dsl.model.saved_activations import SavedActivations

Tensors = tuple[Tensor, ...]


class Embeddings(nn.Cell):
    """Sum of word and position embeddings; tensor parallel ranks shard the word table by rows."""

    def __init__(
        self, config: GPT2Config, precision: PrecisionPolicy, group: TensorParallelGroup
    ) -> None:
        super().__init__(auto_prefix=False)
        self.gather, self.round = P.Gather(), StraightThroughRound(precision)
        self.is_sharded, self.reduce = group.size > 1, reduce_from_tensor_parallel_region(group)
        self.scatter, self.sync_grad = scatter_sequence(group), all_reduce_sequence_grad(group)
        self.count = config.padded_vocab // group.size
        self.first = self.count * group.index
        probability = config.dropouts.embedding
        self.drops, self.dropout = probability > 0, Dropout(keep(probability))

    def local_rows(self, ids: Any) -> tuple[Any, Any]:
        """Return each token's row in this rank's word table, and 1, or 0 if it is in another's.

        Both are ``[b t]``, tensors or NumPy arrays as ``ids`` is.
        """
        ids = ids.reshape((-1,))
        return local_vocab_ids(ids, self.first, self.count) if self.is_sharded else (ids, ids)

    def construct(
        self, words: Tensor, inside: Tensor, wpe: Tensor, positions: Tensor, *dropout_masks: Tensor
    ) -> Tensor:
        """``[b t, h], [b t], [max_positions, h], [b t] → [b t, h]``.

        ``words`` and ``inside`` are what was looked up for ``local_rows``.
        """
        words = self.round(words)
        if self.is_sharded:
            words = self.reduce(words * inside.expand_dims(1))
        x = words + self.round(self.gather(self.sync_grad(wpe), self.scatter(positions), 0))
        if dropout_masks and self.drops:
            x = self.dropout(x, dropout_masks[0])
        return x


class Linear(nn.Cell):
    """A linear of the block with its LoRA adapters.

    c_attn and c_fc are column-parallel (sharded by outputs); c_proj is row-parallel (sharded by
    inputs): its partial outputs are all-reduced.
    """

    def __init__(self, module: str, slots: ParamSlots, precision: PrecisionPolicy) -> None:
        super().__init__(auto_prefix=False)
        self.w, self.b = slots.weights[f"{module}.weight"], slots.weights[f"{module}.bias"]
        self.product, self.bias = MatMul(precision), Bias(precision)
        group, is_row = slots.tensor_group, not is_column(module)
        self.reduce = reduce_from_tensor_parallel_region(group) if is_row else nn.Identity()
        self.sync_bias_grad = all_reduce_sequence_grad(group) if is_row else nn.Identity()
        adapter = lora(module, slots)
        self.is_adapted = adapter is not None
        if adapter:
            self.adapter = adapter

    def construct(self, x: Tensor, weights: Tensors, dropout_masks: Tensors) -> Tensor:
        """``[rows, in] → [rows, out]``."""
        y = self.product(x, weights[self.w])
        if self.is_adapted:
            y = y + self.adapter(x, weights, dropout_masks)
        return self.bias(self.reduce(y), self.sync_bias_grad(weights[self.b]))


def causal_mask(queries: Any, keys: Any) -> Any:
    """Return what is added to scores: 0 where a query sees a key, ``MASKED`` where it does not.

    Args:
        queries: positions of queries, a tensor or NumPy array.
        keys: positions of keys, of a shape that broadcasts.
    """
    return (keys > queries).astype("float32") * MASKED


class AttentionCore(nn.Cell):
    """Scaled dot-product attention: scores, softmax, weighted sum of the values."""

    def __init__(self, config: GPT2Config, precision: PrecisionPolicy) -> None:
        super().__init__(auto_prefix=False)
        self.precision = MixedPrecision(precision)
        self.scores = P.BatchMatMul(transpose_b=True)
        self.weighted_sum = P.BatchMatMul()
        self.softmax = Softmax()
        self.upcasts = config.upcast_attention
        probability = config.dropouts.attention
        self.drops, self.dropout = probability > 0, Dropout(keep(probability))

    def construct(
        self, q: Tensor, mask: Tensor, keys_values: Tensors, dropout_masks: Tensors, saved: Tensors
    ) -> tuple[Tensor, Tensor]:
        """``[b n, t, d], [b n, t, s], 2 x [b n, s, d] → [b n, t, d]``, probabilities.

        ``dropout_masks``: empty or one mask. ``saved``: empty or the saved probabilities.
        """
        precision = self.precision
        k, v = keys_values
        if not self.upcasts:
            q, k = precision.narrow(q), precision.narrow(k)
        scores = precision.wide(self.scores(q, k))  # [b n, t, s]
        p = self.softmax(scores + mask, saved)
        dropped = self.dropout(p, dropout_masks[0]) if dropout_masks and self.drops else p
        context = self.weighted_sum(precision.narrow(dropped), precision.narrow(v))
        return precision.wide(context), p


class Attention(nn.Cell):
    """Causal self-attention."""

    def __init__(self, config: GPT2Config, slots: ParamSlots, precision: PrecisionPolicy) -> None:
        super().__init__(auto_prefix=False)
        self.heads, self.width = config.heads // slots.tensor_group.size, config.head_width
        self.scale = 1 / math.sqrt(self.width) if config.scale_attention else 1.0
        self.scales_by_layer, self.layer_scale = slots.scale is not None, slots.scale or 0
        self.c_attn = Linear("attn.c_attn", slots, precision)
        self.c_proj = Linear("attn.c_proj", slots, precision)
        self.core = AttentionCore(config, precision)
        self.copy = copy_to_tensor_parallel_region(slots.tensor_group)
        self.reuse, self.split, self.transpose = ReuseActivation(), P.Split(-1, 3), P.Transpose()

    def split_heads(self, x: Tensor, batch: int) -> Tensor:
        """``[b t, h] → [b n, t, d]``."""
        x = x.reshape((batch, -1, self.heads, self.width))  # [b, t, n, d]
        return self.transpose(x, (0, 2, 1, 3)).reshape((batch * self.heads, -1, self.width))

    def merge_heads(self, x: Tensor, batch: int) -> Tensor:
        """``[b n, t, d] → [b t, h]``."""
        x = x.reshape((batch, self.heads, -1, self.width))  # [b, n, t, d]
        return self.transpose(x, (0, 2, 1, 3)).reshape((-1, self.heads * self.width))

    def construct(
        self,
        x: Tensor,
        mask: Tensor,
        weights: Tensors,
        dropout_masks: Tensors,
        saved: Tensors,
        probabilities: Tensors,
        cache: nn.Cell | None,
        cache_rows: Tensor | None,
    ) -> tuple[Tensor, Tensors, Tensor]:
        """``[b t, h], [b n, t, s] → [b t, h]``, saved activations, probabilities.

        Arguments as for ``Block``.
        """
        batch, saved_x, saved_qkv = mask.shape[0] // self.heads, saved[:1], saved[1:4]
        x = self.reuse(self.copy(x), saved_x)
        q, k, v = self.split(self.c_attn(x, weights, dropout_masks))  # 3 x [b t, h]
        if self.scales_by_layer:
            q = q * weights[self.layer_scale]
        q = self.reuse(self.split_heads(q * self.scale, batch), saved_qkv[:1])  # [b n, t, d]
        k = self.reuse(self.split_heads(k, batch), saved_qkv[1:2])
        v = self.reuse(self.split_heads(v, batch), saved_qkv[2:3])
        keys, values = (k, v) if cache is None else cache(cache_rows, k, v)  # [b n, s, d]
        context, p = self.core(q, mask, (keys, values), dropout_masks[:1], probabilities)
        context = self.reuse(self.merge_heads(context, batch), saved[4:5])  # [b t, h]
        return self.c_proj(context, weights, dropout_masks), (x, q, k, v, context), p


class MLP(nn.Cell):
    """Two linears with an activation between them."""

    def __init__(self, config: GPT2Config, slots: ParamSlots, precision: PrecisionPolicy) -> None:
        super().__init__(auto_prefix=False)
        self.c_fc = Linear("mlp.c_fc", slots, precision)
        self.c_proj = Linear("mlp.c_proj", slots, precision)
        self.activation = activation(config.activation)
        self.copy, self.reuse = (
            copy_to_tensor_parallel_region(slots.tensor_group),
            ReuseActivation(),
        )

    def construct(
        self, x: Tensor, weights: Tensors, dropout_masks: Tensors, saved: Tensors
    ) -> tuple[Tensor, Tensors]:
        """``[b t, h] → [b t, h]``, saved activations."""
        x = self.reuse(self.copy(x), saved[:1])
        y = self.reuse(self.c_fc(x, weights, dropout_masks), saved[1:2])  # [b t, intermediate]
        return self.c_proj(self.activation(y), weights, dropout_masks), (x, y)


class BlockNorm(nn.Cell):
    """A layer norm of the block.

    Each weight has its own cell to all-reduce its gradient: MindSpore 2.10 mistakes a second
    Parameter of the same shape that passes through one cell for the first.
    """

    def __init__(
        self, name: str, config: GPT2Config, slots: ParamSlots, precision: PrecisionPolicy
    ) -> None:
        super().__init__(auto_prefix=False)
        self.g, self.b = slots.weights[f"{name}.weight"], slots.weights[f"{name}.bias"]
        self.sync_g_grad = all_reduce_sequence_grad(slots.tensor_group)
        self.sync_b_grad = all_reduce_sequence_grad(slots.tensor_group)
        self.norm = LayerNorm(config.epsilon, precision)
        self.known = KnownLayerNorm(self.norm)

    def construct(self, x: Tensor, weights: Tensors, moments: Tensors) -> tuple[Tensor, Tensors]:
        """``[b t, h] → [b t, h]``, mean, variance; ``moments``: empty, or both if saved."""
        g, b = self.sync_g_grad(weights[self.g]), self.sync_b_grad(weights[self.b])
        if moments:
            y, mean, variance = self.known(x, g, b, moments[0], moments[1])
        else:
            y, mean, variance = self.norm(x, g, b)
        return y, (mean, variance)


class Block(nn.Cell):
    """A pre-norm transformer block: norm, attention, residual; norm, MLP, residual.

    Args:
        config: the network's configuration.
        slots: positions of parameters and dropout masks.
        precision: the precision policy.
    """

    def __init__(self, config: GPT2Config, slots: ParamSlots, precision: PrecisionPolicy) -> None:
        super().__init__(auto_prefix=False)
        self.ln_1 = BlockNorm("ln_1", config, slots, precision)
        self.ln_2 = BlockNorm("ln_2", config, slots, precision)
        self.attention = Attention(config, slots, precision)
        self.mlp = MLP(config, slots, precision)
        drops = config.dropouts
        self.drops, self.residual_mask = drops.residual > 0, 1 if drops.attention else 0
        self.dropout, self.reuse = Dropout(keep(drops.residual)), ReuseActivation()
        self.activations = SavedActivations(auto_prefix=False)

    def dropped(self, x: Tensor, dropout_masks: Tensors, index: int) -> Tensor:
        """Apply the block's dropout mask at ``index``, if dropout is on."""
        if dropout_masks and self.drops:
            x = self.dropout(x, dropout_masks[index])
        return x

    def construct(
        self,
        x: Tensor,
        mask: Tensor,
        weights: Tensors,
        dropout_masks: Tensors = (),
        saved: Tensors = (),
        cache: nn.Cell | None = None,
        cache_rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensors]:
        """``[b t, h] → [b t, h]``, and the saved activations.

        Args:
            x: hidden states.
            mask: attention mask ``[b n, t, s]``, added to the scores.
            weights: the block's parameters, ordered as in its slots.
            dropout_masks: the block's dropout masks, or nothing.
            saved: activations saved by the forward pass with the same arguments, or nothing.
            cache: in decoding, the layer's KV cache: it takes keys and values and returns all.
            cache_rows: rows of the cache to write them to.
        """
        names = self.activations
        y, moments_1 = self.ln_1(x, weights, names.norm_1(saved))
        y, attention_saved, p = self.attention(
            y, mask, weights, dropout_masks, names.attention(saved), names.probabilities(saved),
            cache, cache_rows,
        )  # fmt: skip
        x = x + self.dropped(y, dropout_masks, self.residual_mask)
        residual = self.reuse(x, names.residual(saved))  # [b t, h]
        y, moments_2 = self.ln_2(residual, weights, names.norm_2(saved))
        y, mlp_saved = self.mlp(y, weights, dropout_masks, names.mlp(saved))
        y = residual + self.dropped(y, dropout_masks, self.residual_mask + 1)
        return y, names.packed(moments_1, attention_saved, residual, moments_2, mlp_saved, p)


class GPT2(ShardedParameters):
    """The network, or a pipeline stage's part of it.

    Args:
        config: the network's configuration.
        adapters: LoRA adapters; zero until ``load_adapters``.
        adapter_dropout: dropout probability on adapter inputs in training.
        precision: the precision policy.
        recompute: none, full or selective: activations that the backward pass recomputes.
        tensor_group: this rank's tensor parallel group; parameters are this rank's shards.
        pipeline_group: this rank's pipeline group.
        shared: parameters shared with another network, by name.
    """

    @device.turn()
    def __init__(
        self,
        config: GPT2Config,
        *,
        adapters: Sequence[LoRASpec] = (),
        adapter_dropout: float = 0.0,
        precision: PrecisionPolicy = FLOAT32,
        recompute: str = "none",
        tensor_group: TensorParallelGroup = NO_TENSOR_PARALLEL,
        pipeline_group: PipelineGroup = NO_PIPELINE,
        shared: Mapping[str, Parameter] | None = None,
    ) -> None:
        free_unused()
        super().__init__(config, adapters, tensor_group, pipeline_group, shared or {})
        self.precision, self.recompute = precision, recompute
        self.signature = config, precision, self.adapters, adapter_dropout, tensor_group
        self.heads = config.heads // tensor_group.size
        has_embedding_mask = config.dropouts.embedding > 0 and pipeline_group.is_first
        layers = [LayerParameters(self, layer, adapter_dropout) for layer in self.layers]
        self.of_blocks = ParameterTuple([w for layer in layers for w in layer.parameters])
        counts = [len(layer.parameters) for layer in layers]
        self.bounds = tuple(itertools.accumulate(counts, initial=0))
        mask_counts = [layer.mask_count for layer in layers]
        self.mask_bounds = tuple(itertools.accumulate(mask_counts, initial=int(has_embedding_mask)))
        blocks = [Block(config, layer.slots, precision) for layer in layers]
        self.blocks = nn.CellList(blocks, auto_prefix=False)
        self.kinds = tuple(layer.kind for layer in layers)
        if pipeline_group.is_first:
            self.embeddings = Embeddings(config, precision, tensor_group)
            self.wte, self.wpe = self.by_name[WTE], self.by_name[WPE]
        if pipeline_group.is_last:
            self.g, self.b = (self.by_name[name] for name in LN_F)
            self.head_weight = self.by_name[head_of(config)]
        self.norm = LayerNorm(config.epsilon, precision)
        self.lm_head, self.tile = lm_head(config, precision, tensor_group), P.Tile()
        self.scatter_rows = scatter_sequence(tensor_group)
        self.gather_rows = gather_sequence(tensor_group)
        self.sync_g_grad = all_reduce_sequence_grad(tensor_group)  # one each, as in BlockNorm
        self.sync_b_grad = all_reduce_sequence_grad(tensor_group)

    def weights(self, layer: int) -> tuple[Parameter, ...]:
        """Return the parameters of this stage's ``layer``-th block, then those of its adapters."""
        return self.of_blocks[self.bounds[layer] : self.bounds[layer + 1]]

    def construct(self, ids: Tensor) -> tuple[Tensor, tuple[Tensors, ...]]:
        """``[b, t] → [b t, h]``, and each block's saved activations: all layers in one graph."""
        batch, time = ids.shape
        order = ms.ops.arange(time).astype(ms.int32)
        mask = causal_mask(order.reshape((1, time, 1)), order.reshape((1, 1, time)))
        # materialised: adding it is three times as fast as broadcasting
        mask = self.tile(mask, (batch * self.heads, 1, 1))  # [b n, t, t]
        x = self.embed(ids, self.tile(order, (batch,)))
        return self.run_blocks(self.blocks, x, mask)

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Return the embeddings of tokens: ``[b, t], [b t] → [b t, h]``."""
        rows, inside = self.embeddings.local_rows(ids)
        words = self.embeddings.gather(self.wte, rows, 0)
        return self.embeddings(words, inside, self.wpe, positions)

    def run_blocks(
        self, blocks: Iterable[Any], x: Tensor, mask: Tensor, *arguments: Any
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Run this stage's blocks in turn: ``[b t, h], [b n, t, s] → [b t, h]``, saved activations.

        Args:
            blocks: ``self.blocks`` or cells that wrap them, in one graph; or functions that call a
                graph each, outside of one.
            x: hidden states.
            mask: attention mask.
            arguments: further arguments of each block, after its weights.
        """
        saved: tuple[Any, ...] = ()
        for layer, block in enumerate(blocks):
            x, saved_by_block = block(x, mask, self.weights(layer), *arguments)
            saved = (*saved, saved_by_block)
        return x, saved

    def final_norm(self, x: Tensor, g: Tensor, b: Tensor) -> Tensor:
        """Apply the final norm and gather all rows: ``[b t, h], [h], [h] → [b t, h]``."""
        y, _, _ = self.norm(x, self.sync_g_grad(g), self.sync_b_grad(b))
        return self.gather_rows(y)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of some or all rows of hidden states: ``[rows, h] → [rows, v]``."""
        return self.lm_head(self.final_norm(x, self.g, self.b), self.head_weight)
