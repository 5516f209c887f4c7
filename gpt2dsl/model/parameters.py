"""This rank's shards of a network's parameters: created, loaded by slices, gathered.

Parameters have Hugging Face's names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import attrs
import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.backend import device
from gpt2dsl.backend.memory import zeros
from gpt2dsl.distributed.process_groups import PipelineGroup, ProcessGroup, TensorParallelGroup
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec
from gpt2dsl.layout.params import SCORE, VOCAB_TABLES, WTE, padded_shape, param_specs
from gpt2dsl.layout.pipeline_stages import layers_of, stage_tensors
from gpt2dsl.layout.shard_spec import ShardSpec, shard_specs
from gpt2dsl.model import dropout_masks

LOADERS = 2
"""Threads that load weights; each holds a slice of one tensor and this rank's shard of it."""


class Sliceable(Protocol):
    """A whole tensor of which slices are read: a NumPy array, or one in files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""

    def __getitem__(self, index: Any, /) -> Any:
        """Return the values of a tuple of slices, as float32."""


Sources = Mapping[str, Sliceable]
"""Whole tensors by the names of parameters."""


class ShardedParameters(nn.Cell):
    """Parameters of a rank: its pipeline stage's, sharded by tensor parallelism.

    Vocabulary tables have ``config.padded_vocab`` rows, the padded ones zero.

    Args:
        config: the network's configuration.
        adapters: LoRA adapters.
        tensor_group: this rank's tensor parallel group.
        pipeline_group: this rank's pipeline group.
        shared: parameters shared with another network, by name.
    """

    def __init__(
        self,
        config: GPT2Config,
        adapters: Sequence[LoRASpec],
        tensor_group: TensorParallelGroup,
        pipeline_group: PipelineGroup,
        shared: Mapping[str, Parameter],
    ) -> None:
        super().__init__(auto_prefix=False)
        self.config, self.adapters = config, tuple(adapters)
        self.tensor_group, self.pipeline_group = tensor_group, pipeline_group
        self.layers = layers_of(pipeline_group.index, config.layers, pipeline_group.size)
        self.shard_specs = shard_specs(config, adapters)
        self.shapes = {tensor.name: padded_shape(tensor, config) for tensor in param_specs(config)}
        self.adapter_shapes = {
            name: shape for spec in adapters for name, shape in spec.shapes.items()
        }
        stage = stage_tensors(config, pipeline_group.index, pipeline_group.size)
        names = [spec.name for spec in stage]
        self._shared = shared
        new = self._zeros({name: self.shapes[name] for name in names if name not in shared})
        self.by_name = {name: new[name] if name in new else shared[name] for name in names}
        stage_adapters = [spec for spec in adapters if spec.layer in self.layers]
        self.of_adapters = self._zeros(
            {name: shape for spec in stage_adapters for name, shape in spec.shapes.items()}
        )

    @property
    def trained_names(self) -> tuple[str, ...]:
        """Names of trained parameters on all stages: all, or adapters and classification head."""
        if not self.adapters:
            return tuple(self.shapes)
        return (*self.adapter_shapes, *(name for name in (SCORE,) if name in self.shapes))

    def whole_shape(self, name: str) -> tuple[int, ...]:
        """Return the unsharded shape of a parameter; vocabulary tables are padded."""
        return self.shapes.get(name) or self.adapter_shapes[name]

    def trained(self) -> dict[str, Parameter]:
        """Return trained parameters by name: all, or the adapters and the classification head."""
        parameters = self.by_name | self.of_adapters
        return {name: parameters[name] for name in self.trained_names if name in parameters}

    def local_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return this rank's shards of the trained weights, as views of the network's memory."""
        return {name: weight.asnumpy() for name, weight in self.trained().items()}

    def load(self, sources: Sources) -> None:
        """Load this rank's shards of weights in the shapes of whole files; read nothing else.

        Args:
            sources: exactly the tensors of ``param_specs`` that are not shared.

        Raises:
            ValueError: a tensor is missing, unknown to the network or has another shape; tensors
                before it may already be loaded.
        """
        unshared = {name: w for name, w in self.by_name.items() if name not in self._shared}
        shapes = {
            tensor.name: tensor.shape
            for tensor in param_specs(self.config)
            if tensor.name not in self._shared
        }
        self._set(unshared, shapes, sources)

    def load_adapters(self, sources: Sources) -> None:
        """Load the adapters' weights, by the names of ``LoRASpec.shapes``.

        Raises:
            ValueError: as for ``load``.
        """
        self._set(self.of_adapters, self.adapter_shapes, sources)

    @device.turn()
    def _set(
        self,
        parameters: Mapping[str, Parameter],
        shapes: Mapping[str, tuple[int, ...]],
        sources: Sources,
    ) -> None:
        """Set parameters to this rank's shards of whole tensors, one after another."""
        _check_equal(shapes.keys(), sources.keys())

        def read(name: str) -> NDArray[np.float32]:
            source = sources[name]
            _check_equal({(name, shapes[name])}, {(name, source.shape)})
            return self.read_shard(name, source)

        with ThreadPoolExecutor(LOADERS) as pool:
            shards = pool.map(read, parameters)
            for parameter, shard in zip(parameters.values(), shards, strict=True):
                parameter.set_data(Tensor.from_numpy(shard))

    def read_shard(
        self, name: str, source: Sliceable, rows: range | None = None
    ) -> NDArray[np.float32]:
        """Read this rank's shard of a parameter, or of its optimizer state.

        Args:
            name: the parameter.
            source: the whole tensor; a vocabulary table may lack the padded rows.
            rows: rows of the shard; None for all.
        """
        group, spec = self.tensor_group, self.shard_specs[name]
        whole = self.whole_shape(name)
        shape = spec.shape(whole, group.size)
        shard = np.zeros((shape[0] if rows is None else len(rows), *shape[1:]), np.float32)
        for part in spec.slices(whole, group.size, group.index, rows):
            values = source[part.whole]  # it ends where the source does, before the padding
            place = shard[part.shard]
            place[: len(values)] = values
        return shard

    def gather(self, name: str, shard: Tensor | None) -> NDArray[np.float32]:
        """Gather a parameter, or its optimizer state, from all ranks (collective).

        ``shard`` is this rank's, or None. Vocabulary tables include their padded rows.
        """
        shape = self.whole_shape(name)
        array = np.zeros(shape, np.float32)
        if shard is not None:
            array = gather_shards(shard, self.shard_specs[name], self.tensor_group)
        pipeline = self.pipeline_group
        if pipeline.size == 1:
            return array
        if name == WTE and not pipeline.is_first:
            array = np.zeros(shape, np.float32)  # tied: the last stage contributes it
        return np.array(P.AllReduce(group=pipeline.name)(Tensor(array)).asnumpy())

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Gather all weights except adapters, in the shapes of files (collective)."""
        return self._gather_all(self.shapes)

    def trained_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Gather the trained weights, in the shapes of files (collective)."""
        return self._gather_all(self.trained_names)

    def _gather_all(self, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        parameters = self.by_name | self.of_adapters
        arrays = {name: self.gather(name, parameters.get(name)) for name in names}
        for name in arrays.keys() & set(VOCAB_TABLES):
            arrays[name] = arrays[name][: self.config.vocab]
        return arrays

    def _zeros(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Parameter]:
        size = self.tensor_group.size
        return {
            name: zeros(name, self.shard_specs[name].shape(shape, size))
            for name, shape in shapes.items()
        }


def gather_shards(shard: Tensor, spec: ShardSpec, group: ProcessGroup) -> NDArray[np.float32]:
    """Gather a tensor's shards over a group (collective)."""
    if group.size == 1 or spec.axis is None:
        return np.array(shard.asnumpy())
    shape = list(shard.shape)
    shape[spec.axis] *= group.size
    array = np.zeros(shape, np.float32)
    spec.put(array, shard.asnumpy(), group.size, group.index)
    return np.array(P.AllReduce(group=group.name)(Tensor(array)).asnumpy())


def _check_equal(expected: Set[Any], actual: Set[Any]) -> None:
    if wrong := sorted(expected ^ actual):
        raise ValueError(f"tensors that are missing, unknown or of another shape: {wrong[:6]}")


@attrs.frozen
class ParamSlots:
    """Positions of a block's parameters and dropout masks in the tuples passed to it.

    Attributes:
        weights: parameter name within the block → position.
        adapters: the block's LoRA adapters.
        masks: adapter name → position of its dropout mask.
        keep: keep probability of the adapters' dropout masks; 1 without dropout.
        tensor_group: this rank's tensor parallel group.
        scale: position of this layer's extra factor on attention scores; None without one.
    """

    weights: Mapping[str, int]
    adapters: Sequence[LoRASpec]
    masks: Mapping[str, int]
    keep: float
    tensor_group: TensorParallelGroup
    scale: int | None = None


class LayerParameters:
    """Parameters and slots of one layer.

    Attributes:
        parameters: the block's, its adapters' and any attention scale, in slot order.
        slots: their positions.
        mask_count: number of dropout masks in training.
        kind: key that is equal for layers whose blocks differ only in parameter values.
    """

    def __init__(self, network: ShardedParameters, layer: int, adapter_dropout: float) -> None:
        prefix = f"transformer.h.{layer}."
        adapters = [adapter for adapter in network.adapters if adapter.layer == layer]
        base = {name: value for name, value in network.by_name.items() if name.startswith(prefix)}
        lora = {name: network.of_adapters[name] for adapter in adapters for name in adapter.shapes}
        self.parameters = [*base.values(), *lora.values()]
        positions = {name.removeprefix(prefix): i for i, name in enumerate([*base, *lora])}
        scale = None
        if network.config.scale_by_layer:  # an argument, so that one graph serves all layers
            scale = len(self.parameters)
            value = Tensor(np.array([1 / (layer + 1)], np.float32))
            self.parameters.append(Parameter(value, f"{prefix}attn.scale", requires_grad=False))
        block_masks = dropout_masks.masks_of_block(network.config)
        self.mask_count = block_masks + (len(adapters) if adapter_dropout else 0)
        self.slots = ParamSlots(
            weights=positions,
            adapters=adapters,
            masks={adapter.name: block_masks + i for i, adapter in enumerate(adapters)},
            keep=dropout_masks.keep(adapter_dropout),
            tensor_group=network.tensor_group,
            scale=scale,
        )
        scales = tuple(adapter.scale for adapter in adapters)
        self.kind = (tuple(positions), tuple(weight.shape for weight in self.parameters), scales)
