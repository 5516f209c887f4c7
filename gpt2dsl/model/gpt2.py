"""GPT-2 (Radford et al. 2019): embeddings, blocks, final norm.

Parameters have Hugging Face's names. Letters in shapes are those of block.py; v is the padded
vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.backend import device
from gpt2dsl.backend.memory import free_unused, zeros
from gpt2dsl.distributed.collectives import (
    all_reduce_sequence_grad,
    gather_sequence,
    scatter_sequence,
)
from gpt2dsl.distributed.process_groups import (
    NO_PIPELINE,
    NO_TENSOR_PARALLEL,
    PipelineGroup,
    TensorParallelGroup,
)
from gpt2dsl.kernels.layer_norm import LayerNorm
from gpt2dsl.kernels.lm_head import MASKED, lm_head
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec
from gpt2dsl.layout.params import (
    SCORE,
    VOCAB_TABLES,
    WTE,
    head_of,
    padded_shape,
    param_specs,
)
from gpt2dsl.layout.pipeline_stages import layers_of, stage_tensors
from gpt2dsl.layout.precision import FLOAT32, PrecisionPolicy
from gpt2dsl.layout.shard_spec import ShardSpec, shard_specs
from gpt2dsl.model import dropout_masks
from gpt2dsl.model.block import Block, ParamSlots
from gpt2dsl.model.embedding import Embedding

Arrays = Mapping[str, NDArray[np.float32]]

LOADERS = 2
"""Threads that load weights; each holds one array and this rank's shard of it."""

LENGTH_MULTIPLE = 64
"""Sequence lengths outside training are rounded up to a multiple of this: few graphs to compile."""


class GPT2(nn.Cell):
    """GPT-2 network from token ids to hidden states; the head and losses are separate.

    Vocabulary tables have ``geometry.padded_vocab`` rows, the padded ones zero. A pipeline stage
    has some of the blocks; ``forward.Forward`` runs them.

    Args:
        geometry: the network's configuration.
        adapters: LoRA adapters; zero until ``load_adapters``.
        adapter_dropout: dropout probability on adapter inputs in training.
        precision: the precision policy.
        recompute: none, full or selective: activations that the backward pass recomputes.
        shard: this rank's tensor parallel group; parameters are this rank's shards.
        stages: this rank's pipeline group.
        shared: parameters shared with another network, by name.
    """

    @device.turn()
    def __init__(
        self,
        geometry: GPT2Config,
        *,
        adapters: Sequence[LoRASpec] = (),
        adapter_dropout: float = 0.0,
        precision: PrecisionPolicy = FLOAT32,
        recompute: str = "none",
        shard: TensorParallelGroup = NO_TENSOR_PARALLEL,
        stages: PipelineGroup = NO_PIPELINE,
        shared: Mapping[str, Parameter] | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        free_unused()
        self.geometry, self.precision, self.shard = geometry, precision, shard
        self.stages, self.is_first, self.is_last = stages, stages.is_first, stages.is_last
        self.layers = layers_of(stages.index, geometry.layers, stages.pp)
        self.heads = geometry.heads // shard.mp
        self._variant, self.recompute = (adapter_dropout, shard), recompute
        self.adapters = tuple(adapters)
        self.splits = shard_specs(geometry, adapters)
        self.shapes = _shapes(geometry)
        self.adapter_shapes = {
            name: shape for spec in adapters for name, shape in spec.shapes.items()
        }
        names = [spec.name for spec in stage_tensors(geometry, stages.index, stages.pp)]
        self._shared = shared or {}
        new = self._zeros({name: self.shapes[name] for name in names if name not in self._shared})
        self.by_name = {name: (new if name in new else self._shared)[name] for name in names}
        stage_adapters = [spec for spec in adapters if spec.layer in self.layers]
        self.of_adapters = self._zeros(
            {name: s for spec in stage_adapters for name, s in spec.shapes.items()}
        )
        if self.is_first:
            self.embedding = Embedding(self.by_name, precision, shard)
        layers = [_Layer(self, layer, adapter_dropout) for layer in self.layers]
        self.of_blocks = ParameterTuple([w for layer in layers for w in layer.parameters])
        counts = [len(layer.parameters) for layer in layers]
        self.bounds = tuple(itertools.accumulate(counts, initial=0))
        of_stem = 1 if geometry.dropouts.embedding and self.is_first else 0
        drops = [layer.masks for layer in layers]
        self.mask_bounds = tuple(itertools.accumulate(drops, initial=of_stem))
        self.blocks = nn.CellList([layer.block() for layer in layers], auto_prefix=False)
        self.kinds = tuple(layer.kind for layer in layers)
        if self.is_last:
            self.g = self.by_name["transformer.ln_f.weight"]
            self.b = self.by_name["transformer.ln_f.bias"]
        self.norm = LayerNorm(geometry.epsilon, precision)
        self.logits_of = lm_head(geometry, precision, shard)
        self.tile = P.Tile()
        self.own_rows, self.all_rows = scatter_sequence(shard), gather_sequence(shard)
        self.of_g, self.of_b = (
            all_reduce_sequence_grad(shard),
            all_reduce_sequence_grad(shard),
        )  # one each, as in block.BlockNorm

    def trained(self) -> dict[str, Parameter]:
        """Return trained parameters by name: all, or the adapters and the classification head."""
        parameters = self.by_name | self.of_adapters
        return {name: parameters[name] for name in self.trained_names if name in parameters}

    @property
    def signature(self) -> tuple[object, ...]:
        """Key of the compiled graphs: all that determines them except parameter values."""
        return self.geometry, self.precision, self.adapters, self._variant

    def weights(self, layer: int) -> tuple[Parameter, ...]:
        """Return the parameters of this stage's ``layer``-th block, then those of its adapters."""
        return self.of_blocks[self.bounds[layer] : self.bounds[layer + 1]]

    def causal(self, batch: int, time: int) -> Tensor:
        """Return the causal mask to add to scores: ``[b n, t, t]``, 0 where attention is allowed.

        The mask is materialised: adding it is three times as fast as broadcasting.
        """
        order = ms.ops.arange(time)
        later = (order.reshape((1, time, 1)) < order.reshape((1, 1, time))).astype(ms.float32)
        return self.tile(later * MASKED, (batch * self.heads, 1, 1))

    def construct(self, ids: Tensor) -> Tensor:
        """``[b, t] → [b t, h]``, all layers in one graph, without dropout."""
        batch, time = ids.shape
        positions = self.tile(ms.ops.arange(time).astype(ms.int32), (batch,))  # [b t]
        x = self.embedding(ids, positions)
        mask = self.causal(batch, time)
        for i, block in enumerate(self.blocks):
            x, _ = block(x, mask, self.weights(i))
        return self.normal(x, self.g, self.b)

    def normal(self, x: Tensor, g: Tensor, b: Tensor) -> Tensor:
        """Apply the final norm and gather all rows: ``[b t, h], [h], [h] → [b t, h]``."""
        y, _, _ = self.norm(x, self.of_g(g), self.of_b(b))
        return self.all_rows(y)

    def load(self, arrays: Arrays) -> None:
        """Load weights in the shapes of whole files.

        Args:
            arrays: name → array: exactly the tensors of ``param_specs`` that are not shared.

        Raises:
            ValueError: a tensor is missing, unknown to the network or has another shape; tensors
                before it may already be loaded.
        """
        unshared = {name: w for name, w in self.by_name.items() if name not in self._shared}
        shapes = {
            tensor.name: tensor.shape
            for tensor in param_specs(self.geometry)
            if tensor.name not in self._shared
        }
        self._take(unshared, shapes, arrays)

    def load_adapters(self, arrays: Arrays) -> None:
        """Load the adapters' weights, by the names of ``LoRASpec.shapes``.

        Raises:
            ValueError: as for ``load``.
        """
        self._take(self.of_adapters, self.adapter_shapes, arrays)

    @device.turn()
    def _take(
        self,
        own: Mapping[str, Parameter],
        shapes: Mapping[str, tuple[int, ...]],
        arrays: Arrays,
    ) -> None:
        """Set parameters to this rank's shards of arrays; each array is read once."""
        _agree(shapes.keys(), arrays.keys())

        def part(name: str) -> NDArray[np.float32]:
            array = arrays[name]
            _agree({(name, shapes[name])}, {(name, array.shape)})
            if name in VOCAB_TABLES:
                padding = self.geometry.padded_vocab - self.geometry.vocab
                array = np.pad(array, ((0, padding), (0, 0)))
            return self._own(name, array)

        with ThreadPoolExecutor(LOADERS) as pool:
            for parameter, shard in zip(own.values(), pool.map(part, own), strict=True):
                parameter.set_data(Tensor.from_numpy(shard))

    def part(self, name: str, array: NDArray[np.float32]) -> Tensor:
        """Return this rank's shard of an array of a parameter's (padded) shape."""
        return Tensor.from_numpy(self._own(name, array))

    def _own(self, name: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        part = self.splits[name].cut(array, self.shard.mp, self.shard.index)
        return np.array(part, np.float32, order="C")

    def whole(self, name: str, part: Tensor | None) -> NDArray[np.float32]:
        """Gather a parameter, or its optimizer state, from all ranks (collective).

        ``part`` is this rank's shard, or None. Vocabulary tables include their padded rows.
        """
        shape = self.shapes.get(name) or self.adapter_shapes[name]
        array = np.zeros(shape, np.float32)
        if part is not None:
            array = gather_shards(part, self.splits[name], self.shard)
        if self.stages.pp == 1:
            return array
        if name == WTE and not self.is_first:
            array = np.zeros(shape, np.float32)  # tied: the last stage contributes it
        return np.array(P.AllReduce(group=self.stages.group)(Tensor(array)).asnumpy())

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Gather all weights except adapters, in the shapes of files (collective)."""
        return self._of_files(self.shapes)

    def trained_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Gather the trained weights, in the shapes of files (collective)."""
        return self._of_files(self.trained_names)

    @property
    def trained_names(self) -> tuple[str, ...]:
        """Names of trained parameters on all stages: all, or adapters and classification head."""
        if not self.adapters:
            return tuple(self.shapes)
        return (*self.adapter_shapes, *(name for name in (SCORE,) if name in self.shapes))

    def _of_files(self, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        parameters = self.by_name | self.of_adapters
        arrays = {name: self.whole(name, parameters.get(name)) for name in names}
        for name in arrays.keys() & set(VOCAB_TABLES):
            arrays[name] = arrays[name][: self.geometry.vocab]
        return arrays

    def _zeros(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Parameter]:
        mp = self.shard.mp
        return {
            name: zeros(name, self.splits[name].shape(shape, mp)) for name, shape in shapes.items()
        }


class TokenLogits(nn.Cell):
    """Graph from token ids to the logits of every token."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.head = network.by_name[head_of(network.geometry)]

    def construct(self, ids: Tensor) -> Tensor:
        """Return logits: ``[b, t] → [b t, v]``."""
        return self.network.logits_of(self.network(ids), self.head)

    @device.turn()
    def logits(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return logits: ``[b, t] → [b, t, vocab]``.

        Rows are padded on the right to one of a few lengths, each compiled once; attention is
        causal, so padding changes nothing.
        """
        batch, time = ids.shape
        geometry = self.network.geometry
        padded = np.zeros((batch, min(padded_length(time), geometry.positions)), np.int32)
        padded[:, :time] = ids
        flat_logits: NDArray[np.float32] = self(Tensor(padded)).asnumpy()
        return flat_logits.reshape((*padded.shape, -1))[:, :time, : geometry.vocab]


def padded_length(length: int) -> int:
    """Return the compiled length: ``length`` rounded up to a multiple of ``LENGTH_MULTIPLE``."""
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def gather_shards(
    part: Tensor, split: ShardSpec, shard: TensorParallelGroup
) -> NDArray[np.float32]:
    """Gather a tensor's shards over the tensor parallel group (collective)."""
    if shard.mp == 1 or split.axis is None:
        return np.array(part.asnumpy())
    shape = list(part.shape)
    shape[split.axis] *= shard.mp
    whole = np.zeros(shape, np.float32)
    split.put(whole, part.asnumpy(), shard.mp, shard.index)
    return np.array(P.AllReduce(group=shard.group)(Tensor(whole)).asnumpy())


def _shapes(geometry: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Return the padded shape of every parameter, by Hugging Face's name."""
    return {tensor.name: padded_shape(tensor, geometry) for tensor in param_specs(geometry)}


def _agree(wanted: Set[Any], found: Set[Any]) -> None:
    if wrong := sorted(wanted ^ found):
        raise ValueError(f"tensors that are missing, unknown or of another shape: {wrong[:6]}")


class _Layer:
    """Parameters and slots of one layer, from which its block is built.

    Attributes:
        parameters: the block's, its adapters' and any attention scale, in slot order.
        masks: number of dropout masks in training.
        kind: key that is equal for layers whose blocks differ only in parameter values.
    """

    def __init__(self, network: GPT2, layer: int, adapter_dropout: float) -> None:
        self._network = network
        prefix = f"transformer.h.{layer}."
        adapters = [adapter for adapter in network.adapters if adapter.layer == layer]
        base = {name: value for name, value in network.by_name.items() if name.startswith(prefix)}
        lora = {name: network.of_adapters[name] for adapter in adapters for name in adapter.shapes}
        self.parameters = [*base.values(), *lora.values()]
        places = {name.removeprefix(prefix): i for i, name in enumerate([*base, *lora])}
        scale = None
        if network.geometry.scale_by_layer:  # an argument, so that one graph serves all layers
            scale = len(self.parameters)
            value = Tensor(np.array([1 / (layer + 1)], np.float32))
            self.parameters.append(Parameter(value, f"{prefix}attn.scale", requires_grad=False))
        block_masks = dropout_masks.masks_of_block(network.geometry)
        self.masks = block_masks + (len(adapters) if adapter_dropout else 0)
        self._slots = ParamSlots(
            weights=places,
            adapters=adapters,
            masks={adapter.name: block_masks + i for i, adapter in enumerate(adapters)},
            keep=dropout_masks.keep(adapter_dropout),
            shard=network.shard,
            scale=scale,
        )
        scales = tuple(adapter.scale for adapter in adapters)
        self.kind = (tuple(places), tuple(weight.shape for weight in self.parameters), scales)

    def block(self) -> Block:
        """Build the block."""
        network = self._network
        return Block(network.geometry, self._slots, network.precision)
