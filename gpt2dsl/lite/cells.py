"""GPT-2 as MindSpore cells for export to MindIR, with the inputs and outputs of ``onnx_graph``.

Inference only, without updates of Parameters: KV caches are inputs, new keys and values outputs.
The layer norm is built from means, which every converter of MindIR computes correctly. Letters are
those of ``shapes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.backend import device
from gpt2dsl.kernels.activation import activation
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import param_specs
from gpt2dsl.lite.shapes import HIDDEN, INCREMENT, WHOLE, Shapes

Values = Mapping[str, NDArray[np.float32]]


def export(
    shapes: Shapes, graph: str, values: Values, path: Path, *, float16: bool = False
) -> None:
    """Export a graph as MindIR.

    Above 2 GB MindSpore writes weights to a folder beside ``path``. With ``float16`` weights are
    stored in it, and cast to float32 for use.
    """
    device.use("cpu")
    kind = IncrementGraph if graph == INCREMENT else PrefillGraph
    cell = kind(shapes, graph, values, float16)
    cell.set_train(False)
    inputs = [Tensor(np.ones(port.shape, np.dtype(port.dtype))) for port in shapes.inputs(graph)]
    try:
        ms.export(cell, *inputs, file_name=str(path.with_suffix("")), file_format="MINDIR")
    except RuntimeError as error:
        if "KeyboardInterrupt" in str(error):  # the compiler turns Ctrl-C into a RuntimeError
            raise KeyboardInterrupt from error
        raise


class _Weights(nn.Cell):
    """Weights by name, cast to float32 for use."""

    def __init__(self, values: Values, names: list[str], *, float16: bool) -> None:
        super().__init__(auto_prefix=False)
        self.is_narrow = float16
        kind = np.float16 if float16 else np.float32
        self.cast_parameters = ParameterTuple(
            [Parameter(Tensor(values[n].astype(kind)), name=n) for n in names]
        )

    def construct(self) -> tuple[Tensor, ...]:
        tensors: tuple[Tensor, ...] = ()
        for parameter in self.cast_parameters:
            tensors = (*tensors, parameter.astype(ms.float32) if self.is_narrow else parameter)
        return tensors


class _LayerNorm(nn.Cell):
    """Layer norm: ``(x - mean) / sqrt(var + epsilon) * g + b``."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.mean = P.ReduceMean(keep_dims=True)
        self.sqrt = P.Sqrt()
        self.epsilon = epsilon

    def construct(self, x: Tensor, g: Tensor, b: Tensor) -> Tensor:
        """Normalize rows: ``[rows, h] → [rows, h]``."""
        centred = x - self.mean(x, -1)
        variance = self.mean(centred * centred, -1)
        return centred / self.sqrt(variance + self.epsilon) * g + b


class _BlockCell(nn.Cell):
    """A transformer layer, split before and after the attention product."""

    def __init__(self, geometry: GPT2Config, layer: int, batch: int, time: int) -> None:
        super().__init__()
        self.batch, self.time = batch, time
        self.heads, self.width, self.hidden = geometry.heads, geometry.head_width, geometry.hidden
        self.scale = geometry.attention_scale(layer)
        self.norm = _LayerNorm(geometry.epsilon)
        self.activation = activation(geometry.activation)
        self.product, self.transpose = P.MatMul(), P.Transpose()
        self.split = P.Split(1, 3)

    def project(self, x: Tensor, w: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Project ``[B T, h]`` to q ``[B H, T, D]``, k ``[B H, D, T]``, v ``[B H, T, D]``."""
        n = self.norm(x, w[0], w[1])
        q, k, v = self.split(self.product(n, w[2]) + w[3])  # 3 x [B T, h]
        q = self._heads(q, (0, 2, 1, 3)).reshape((-1, self.time, self.width)) * self.scale
        k = self._heads(k, (0, 2, 3, 1)).reshape((-1, self.width, self.time))
        v = self._heads(v, (0, 2, 1, 3)).reshape((-1, self.time, self.width))
        return q, k, v

    def _heads(self, x: Tensor, order: tuple[int, ...]) -> Tensor:
        split = x.reshape((self.batch, self.time, self.heads, self.width))
        return self.transpose(split, order)

    def after(self, x: Tensor, context: Tensor, w: tuple[Tensor, ...]) -> Tensor:
        """Return the layer's output ``[B T, h]`` for an attention context ``[B H, T, D]``."""
        by_head = context.reshape((self.batch, self.heads, self.time, self.width))
        rows = self.transpose(by_head, (0, 2, 1, 3)).reshape((-1, self.hidden))  # [B T, h]
        x = x + self.product(rows, w[4]) + w[5]
        inner = self.activation(self.product(self.norm(x, w[6], w[7]), w[8]) + w[9])
        return x + self.product(inner, w[10]) + w[11]


class _GraphCell(nn.Cell):
    """Base class of all graphs."""

    def __init__(self, shapes: Shapes, graph: str, values: Values, float16: bool) -> None:
        super().__init__(auto_prefix=False)
        geometry = shapes.geometry
        self.batch, self.hidden, self.vocab = shapes.batch, geometry.hidden, geometry.vocab
        self.length = shapes.length
        self.time = 1 if graph == INCREMENT else shapes.length
        self.is_whole = graph == WHOLE
        specs = list(param_specs(geometry))
        outside = [spec.name for spec in specs if spec.layer in (-1, geometry.layers)]
        self.outer = _Weights(values, outside, float16=float16)
        self.inner = nn.CellList(
            [
                _Weights(values, [spec.name for spec in specs if spec.layer == i], float16=float16)
                for i in range(geometry.layers)
            ],
            auto_prefix=False,
        )
        blocks = [_BlockCell(geometry, i, self.batch, self.time) for i in range(geometry.layers)]
        self.blocks = nn.CellList(blocks, auto_prefix=False)
        self.norm = _LayerNorm(geometry.epsilon)
        self.gather, self.softmax = P.Gather(), P.Softmax(-1)
        self.batched = P.BatchMatMul()
        self.product_bt = P.MatMul(transpose_b=True)

    def logits(self, x: Tensor, outer: tuple[Tensor, ...]) -> Tensor:
        """Return logits ``[rows, V]`` or ``[rows, C]`` for ``[rows, h]``."""
        # An untied head or the score is the fifth tensor.
        head = outer[4] if len(outer) > 4 else outer[0]
        return self.product_bt(self.norm(x, outer[2], outer[3]), head)


class PrefillGraph(_GraphCell):
    """A pass over whole rows, with logits and caches or only logits as outputs."""

    def __init__(self, shapes: Shapes, graph: str, values: Values, float16: bool) -> None:
        super().__init__(shapes, graph, values, float16)
        self.gives_caches = len(shapes.outputs(graph)) > 1
        self.order = Tensor(np.arange(self.length, dtype=np.int32))
        later = np.triu(np.full((self.length, self.length), HIDDEN, np.float32), 1)
        self.mask = Tensor(later[None])  # [1, S, S]
        self.starts = Tensor(np.arange(self.batch, dtype=np.int32) * self.length - 1)

    def construct(self, ids: Tensor, *valid: Tensor) -> tuple[Tensor, ...]:
        """Compute ``Shapes.outputs`` from ``Shapes.inputs``."""
        outer = self.outer()
        x = self.gather(outer[0], ids, 0) + self.gather(outer[1], self.order, 0)  # [B, S, h]
        x = x.reshape((-1, self.hidden))
        caches: tuple[Tensor, ...] = ()
        for i, block in enumerate(self.blocks):
            weights = self.inner[i]()
            q, k, v = block.project(x, weights)
            shares = self.softmax(self.batched(q, k) + self.mask)  # [B H, S, S]
            x = block.after(x, self.batched(shares, v), weights)
            caches = (*caches, k, v)
        if self.is_whole:
            return (self.logits(x, outer).reshape((self.batch, self.length, self.vocab)),)
        last = self.gather(x, valid[0] + self.starts, 0)  # [B, h]
        logits = self.logits(last, outer)
        return (logits, *caches) if self.gives_caches else (logits,)


class IncrementGraph(_GraphCell):
    """A decoding step: one token of each row, attending to the KV cache."""

    def __init__(self, shapes: Shapes, graph: str, values: Values, float16: bool) -> None:
        super().__init__(shapes, graph, values, float16)
        self.order = Tensor(np.arange(self.length, dtype=np.int32)[None])  # [1, S]
        heads = shapes.geometry.heads
        self.by_head = Tensor(np.repeat(np.arange(self.batch, dtype=np.int32), heads))  # [B H]
        self.concat = P.Concat(-1)

    def construct(self, ids: Tensor, position: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """Compute ``Shapes.outputs`` from ``Shapes.inputs``."""
        outer = self.outer()
        x = self.gather(outer[0], ids.reshape((-1,)), 0) + self.gather(outer[1], position, 0)
        hidden = (self.order >= position.reshape((-1, 1))).astype(ms.float32) * HIDDEN  # [B, S]
        mask = self.gather(hidden, self.by_head, 0).expand_dims(1)  # [B H, 1, S]
        new: tuple[Tensor, ...] = ()
        for i, block in enumerate(self.blocks):
            weights = self.inner[i]()
            q, k, v = block.project(x, weights)  # [B H, 1, D], [B H, D, 1], [B H, 1, D]
            cached_scores = self.batched(q, caches[2 * i]) + mask  # [B H, 1, S]
            own_score = self.batched(q, k)  # [B H, 1, 1]
            shares = self.softmax(self.concat((cached_scores, own_score)))
            cached = self.batched(shares[:, :, : self.length], caches[2 * i + 1])
            x = block.after(x, cached + shares[:, :, self.length :] * v, weights)
            new = (*new, k, v)
        return (self.logits(x, outer), *new)
