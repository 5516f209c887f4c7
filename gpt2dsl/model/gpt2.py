"""The network: GPT-2 (Radford et al. 2019): embedding, blocks, a last norm.

Parameters have Hugging Face's names. Letters in shapes are those of block.py, and v the padded
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
from gpt2dsl.kernels.layer_norm import LayerNorm
from gpt2dsl.kernels.lm_head import MASKED, lm_head
from gpt2dsl.kernels.mixed_precision import StraightThroughRound
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec
from gpt2dsl.layout.params import (
    SCORE,
    VOCAB_TABLES,
    WPE,
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

Arrays = Mapping[str, NDArray[np.float32]]

LOADERS = 2
"""Threads that take over arrays; each holds one of them and its part."""

LENGTH_MULTIPLE = 64
"""Lengths of what is not trained are rounded up to a multiple of this: few graphs are compiled."""


class Embedding(nn.Cell):
    """Word plus position: the sum of two rows. A rank finds the words of its rows, others 0."""

    def __init__(
        self, weights: dict[str, Parameter], precision: PrecisionPolicy, shard: TensorParallelGroup
    ) -> None:
        super().__init__(auto_prefix=False)
        self.words = weights[WTE]
        self.positions = weights[WPE]
        self.gather = P.Gather()
        self.held = StraightThroughRound(precision)
        self.is_shared, self.leave = shard.mp > 1, reduce_from_tensor_parallel_region(shard)
        self.own_rows, self.beside = scatter_sequence(shard), all_reduce_sequence_grad(shard)
        self.count = self.words.shape[0]
        self.first = self.count * shard.index

    def sum(self, words: Tensor, inside: Tensor, positions: Tensor, places: Tensor) -> Tensor:
        """``[b t, h], [b t], [positions, h], [b t] → [b t, h]``: rows of the tables, added.

        ``inside``: 1 where a word is among this rank's, else 0.
        """
        words = self.held(words)
        if self.is_shared:
            words = self.leave(words * inside.expand_dims(1))
        return words + self.held(self.gather(self.beside(positions), self.own_rows(places), 0))

    def construct(self, ids: Tensor, positions: Tensor) -> Tensor:
        """``[b, t], [b, t] → [b t, h]``."""
        place = inside = ids.reshape((-1,))
        if self.is_shared:
            place, inside = local_vocab_ids(place, self.first, self.count)
        words = self.gather(self.words, place, 0)
        return self.sum(words, inside, self.positions, positions.reshape((-1,)))


class GPT2(nn.Cell):
    """Ids to hidden states; ``Logits`` or ``HeadLoss`` take it from there.

    Tables of the vocabulary have ``geometry.padded_vocab`` rows, the padded ones zero. A
    stage of a pipeline has some of the blocks; ``forward.Forward`` goes through them.

    Args:
        geometry: the network's numbers.
        adapters: of LoRA; without values until ``load_adapters``.
        adapter_dropout: probability on their inputs in training.
        precision: number formats.
        recompute: none, full or selective: what a training's backward pass computes again.
        shard: this rank's part of each layer. Parameters are those parts.
        stages: which of them it has.
        shared: another network's parameters that are this one's too, by name.
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
            name: shape for one in adapters for name, shape in one.shapes.items()
        }
        held = [one.name for one in stage_tensors(geometry, stages.index, stages.pp)]
        self._shared = shared or {}
        new = self._zeros({name: self.shapes[name] for name in held if name not in self._shared})
        self.by_name = {name: (new if name in new else self._shared)[name] for name in held}
        own = [one for one in adapters if one.layer in self.layers]
        self.of_adapters = self._zeros({name: s for one in own for name, s in one.shapes.items()})
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
        )  # one each, as in block.Norm

    def trained(self) -> dict[str, Parameter]:
        """What training changes, by name: all, or the adapters and the head of the classes."""
        held = self.by_name | self.of_adapters
        return {name: held[name] for name in self.trained_names if name in held}

    @property
    def signature(self) -> tuple[object, ...]:
        """What fixes its graphs, the values of its parameters apart."""
        return self.geometry, self.precision, self.adapters, self._variant

    def weights(self, layer: int) -> tuple[Parameter, ...]:
        """Return the parameters of a block, by its place in this stage, then its adapters'."""
        return self.of_blocks[self.bounds[layer] : self.bounds[layer + 1]]

    def causal(self, batch: int, time: int) -> Tensor:
        """What is added to the scores: ``[b n, t, t]``, 0 where a token may look.

        It is laid out whole: adding it so is three times as fast as a broadcast.
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
        """Return the last norm, of all rows: ``[b t, h], [h], [h] → [b t, h]``."""
        y, _, _ = self.norm(x, self.of_g(g), self.of_b(b))
        return self.all_rows(y)

    def load(self, arrays: Arrays) -> None:
        """Take over the values of files.

        Args:
            arrays: name → array, of all tensors of ``layout.tensors`` that it does not share, and
                no others.

        Raises:
            ValueError: a tensor is missing, is not one of the network, or has another shape; those
                before it may be taken over.
        """
        own = {name: weight for name, weight in self.by_name.items() if name not in self._shared}
        shapes = {
            tensor.name: tensor.shape
            for tensor in param_specs(self.geometry)
            if tensor.name not in self._shared
        }
        self._take(own, shapes, arrays)

    def load_adapters(self, arrays: Arrays) -> None:
        """Take over the values of the adapters, by the names of ``layout.adapters``.

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
        """Give parameters this rank's parts of arrays, each of which is asked for once."""
        _agree(shapes.keys(), arrays.keys())

        def part(name: str) -> NDArray[np.float32]:
            array = arrays[name]
            _agree({(name, shapes[name])}, {(name, array.shape)})
            if name in VOCAB_TABLES:
                padding = self.geometry.padded_vocab - self.geometry.vocab
                array = np.pad(array, ((0, padding), (0, 0)))
            return self._own(name, array)

        with ThreadPoolExecutor(LOADERS) as pool:
            for parameter, found in zip(own.values(), pool.map(part, own), strict=True):
                parameter.set_data(Tensor.from_numpy(found))

    def part(self, name: str, array: NDArray[np.float32]) -> Tensor:
        """This rank's part of a parameter, or of what has its shape; the table's is padded."""
        return Tensor.from_numpy(self._own(name, array))

    def _own(self, name: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        part = self.splits[name].cut(array, self.shard.mp, self.shard.index)
        return np.array(part, np.float32, order="C")

    def whole(self, name: str, part: Tensor | None) -> NDArray[np.float32]:
        """Return a parameter, or what has its shape, of which this rank has a part, or nothing.

        All ranks ask at once. Tables of the vocabulary have their padded rows.
        """
        shape = self.shapes.get(name) or self.adapter_shapes[name]
        found = np.zeros(shape, np.float32)
        if part is not None:
            found = gather_shards(part, self.splits[name], self.shard)
        if self.stages.pp == 1:
            return found
        if name == WTE and not self.is_first:
            found = np.zeros(shape, np.float32)  # the last stage's is the same
        return np.array(P.AllReduce(group=self.stages.group)(Tensor(found)).asnumpy())

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The values, in the shapes that files have; without adapters. All ranks ask at once."""
        return self._of_files(self.shapes)

    def trained_arrays(self) -> dict[str, NDArray[np.float32]]:
        """As ``arrays``, of what training changes."""
        return self._of_files(self.trained_names)

    @property
    def trained_names(self) -> tuple[str, ...]:
        """What training changes, on all stages: all, or the adapters and the classes' head."""
        if not self.adapters:
            return tuple(self.shapes)
        return (*self.adapter_shapes, *(name for name in (SCORE,) if name in self.shapes))

    def _of_files(self, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        held = self.by_name | self.of_adapters
        found = {name: self.whole(name, held.get(name)) for name in names}
        for name in found.keys() & set(VOCAB_TABLES):
            found[name] = found[name][: self.geometry.vocab]
        return found

    def _zeros(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Parameter]:
        mp = self.shard.mp
        return {
            name: zeros(name, self.splits[name].shape(shape, mp)) for name, shape in shapes.items()
        }


class TokenLogits(nn.Cell):
    """Ids to logits, for every token."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.head = network.by_name[head_of(network.geometry)]

    def construct(self, ids: Tensor) -> Tensor:
        """``[b, t] → [b t, v]``."""
        return self.network.logits_of(self.network(ids), self.head)

    @device.turn()
    def logits(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """``[b, t] → [b, t, vocab]``.

        Rows are padded on the right to a bucket of lengths, each of which is compiled once; no
        token sees what comes after it.
        """
        batch, time = ids.shape
        geometry = self.network.geometry
        padded = np.zeros((batch, min(padded_length(time), geometry.positions)), np.int32)
        padded[:, :time] = ids
        found: NDArray[np.float32] = self(Tensor(padded)).asnumpy()
        return found.reshape((*padded.shape, -1))[:, :time, : geometry.vocab]


def padded_length(length: int) -> int:
    """Return the length that is compiled for: the next multiple of ``LENGTH_MULTIPLE``."""
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def gather_shards(
    part: Tensor, split: ShardSpec, shard: TensorParallelGroup
) -> NDArray[np.float32]:
    """What ranks that share a layer hold together; all of them ask at once."""
    if shard.mp == 1 or split.axis is None:
        return np.array(part.asnumpy())
    shape = list(part.shape)
    shape[split.axis] *= shard.mp
    whole = np.zeros(shape, np.float32)
    split.put(whole, part.asnumpy(), shard.mp, shard.index)
    return np.array(P.AllReduce(group=shard.group)(Tensor(whole)).asnumpy())


def _shapes(geometry: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Of every parameter of the network, by Hugging Face's name."""
    return {tensor.name: padded_shape(tensor, geometry) for tensor in param_specs(geometry)}


def _agree(wanted: Set[Any], found: Set[Any]) -> None:
    if wrong := sorted(wanted ^ found):
        raise ValueError(f"tensors that are missing, unknown or of another shape: {wrong[:6]}")


class _Layer:
    """What a block is built from.

    Attributes:
        parameters: its own and those of its adapters, in the order of ``ParamSlots.weights``, and
            the layer's scale of attention, where it has one.
        masks: dropout masks that it takes in training.
        kind: equal for layers whose blocks differ in the values of their parameters alone.
    """

    def __init__(self, network: GPT2, layer: int, adapter_dropout: float) -> None:
        self._network = network
        prefix = f"transformer.h.{layer}."
        adapters = [one for one in network.adapters if one.layer == layer]
        own = {name: value for name, value in network.by_name.items() if name.startswith(prefix)}
        added = {name: network.of_adapters[name] for one in adapters for name in one.shapes}
        self.parameters = [*own.values(), *added.values()]
        places = {name.removeprefix(prefix): i for i, name in enumerate([*own, *added])}
        scale = None
        if network.geometry.scale_by_layer:  # a value that is given: one graph serves all layers
            scale = len(self.parameters)
            value = Tensor(np.array([1 / (layer + 1)], np.float32))
            self.parameters.append(Parameter(value, f"{prefix}attn.scale", requires_grad=False))
        before = dropout_masks.masks_of_block(network.geometry)
        self.masks = before + (len(adapters) if adapter_dropout else 0)
        self._slots = ParamSlots(
            weights=places,
            adapters=adapters,
            masks={one.name: before + i for i, one in enumerate(adapters)},
            keep=dropout_masks.keep(adapter_dropout),
            shard=network.shard,
            scale=scale,
        )
        scales = tuple(one.scale for one in adapters)
        self.kind = (tuple(places), tuple(weight.shape for weight in self.parameters), scales)

    def block(self) -> Block:
        """Return the block."""
        network = self._network
        return Block(network.geometry, self._slots, network.precision)
