"""GPT-2 as ONNX, written node by node; weights lie in one file that all graphs share.

Operators are those that MindSpore Lite 2.0.0's converter computes right: its layer norm is wrong
where the sum of squares is one operator, so that it is two means here. Opset 13 has all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.layout.tensors import POSITIONS, TABLE, head_of
from gpt2dsl.lite.onnx_activations import activation
from gpt2dsl.lite.shapes import (
    HIDDEN,
    IDS,
    INCREMENT,
    LOGITS,
    POSITION,
    VALID,
    WHOLE,
    Shapes,
)
from gpt2dsl.weights.files.hashing import hashed
from gpt2dsl.weights.files.pieces import Part
from gpt2dsl.weights.files.stored import Stored

OPSET = 13
WEIGHTS = "weights.bin"

_ALIGNED = 64
_TYPES = {"F32": "FLOAT", "F16": "FLOAT16"}
_THIRDS = ("query", "key", "value")


@attrs.frozen
class Placed:
    """A tensor in the file of weights."""

    kind: str
    shape: tuple[int, ...]
    offset: int
    size: int


def thirds(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """The tensors with c_attn as three: a slice of its output would cost each token a copy."""
    found: dict[str, Stored] = {}
    for name, tensor in tensors.items():
        if ".c_attn." not in name:
            found[name] = tensor
            continue
        width = tensor.shape[-1] // 3
        for i, third in enumerate(_THIRDS):
            edges = [(0, length) for length in tensor.shape[:-1]]
            box = (*edges, (i * width, (i + 1) * width))
            found[name.replace("c_attn", third)] = Part.at(tensor, box)
    return found


def write_weights(path: Path, tensors: Mapping[str, Stored]) -> dict[str, Placed]:
    """Writes all tensors into one file; where each lies."""
    found: dict[str, Placed] = {}
    offset = 0
    with hashed(path) as file:
        for name, tensor in tensors.items():
            padding = -offset % _ALIGNED
            file.write(b"\0" * padding)
            offset += padding
            found[name] = Placed(tensor.kind, tensor.shape, offset, tensor.size)
            for block in tensor.blocks():
                file.write(np.ascontiguousarray(block).data)
            offset += tensor.size
    return found


def graph(shapes: Shapes, name: str, weights: Mapping[str, Placed]) -> Any:
    """The ModelProto of a graph, whose weights are in ``WEIGHTS`` beside it.

    Args:
        shapes: the sizes.
        name: prefill, increment, whole or classify.
        weights: as ``write_weights`` gave them.
    """
    return _Graph(shapes, name, weights).model()


class _Graph:
    """Nodes one after another; each method gives the name of what it computes."""

    def __init__(self, shapes: Shapes, name: str, weights: Mapping[str, Placed]) -> None:
        self.shapes, self.name, self.weights = shapes, name, weights
        self.geometry = shapes.geometry
        self.time = 1 if name == INCREMENT else shapes.length
        self.rows = shapes.batch * self.time
        self.nodes: list[Any] = []
        self.held: dict[str, Any] = {}
        self.caches: dict[str, str] = {}

    def model(self) -> Any:
        import onnx  # noqa: PLC0415  # an extra
        from onnx import helper  # noqa: PLC0415

        x = self._blocks(self._embedded())  # [B T, h]
        results = {LOGITS: self._logits(x), **self.caches}
        ports = self.shapes.outputs(self.name)
        for port in ports:
            self.nodes.append(helper.make_node("Identity", [results[port.name]], [port.name]))

        def described(port: Any) -> Any:
            kind = onnx.TensorProto.INT32 if port.dtype == "int32" else onnx.TensorProto.FLOAT
            return helper.make_tensor_value_info(port.name, kind, port.shape)

        made = helper.make_graph(
            self.nodes,
            self.name,
            [described(port) for port in self.shapes.inputs(self.name)],
            [described(port) for port in ports],
            list(self.held.values()),
        )
        return helper.make_model(
            made,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=8,
            producer_name="gpt2dsl",
        )

    def _embedded(self) -> str:
        """``[B T, h]``."""
        h = self.geometry.hidden
        words = self.op("Gather", self.weight(TABLE), IDS)  # [B, T, h]
        if self.name == INCREMENT:
            places = self.op("Gather", self.weight(POSITIONS), POSITION)  # [B, h]
            return self.op("Add", self.shaped(words, self.rows, h), places)
        first = self.constant(np.arange(self.time, dtype=np.int32))
        places = self.op("Gather", self.weight(POSITIONS), first)  # [T, h]
        return self.shaped(self.op("Add", words, places), self.rows, h)

    def _blocks(self, x: str) -> str:
        mask = self._mask()
        for layer in range(self.geometry.layers):
            block = f"transformer.h.{layer}"
            n = self.norm(x, f"{block}.ln_1")
            x = self.op("Add", x, self._attention(n, layer, mask))
            n = self.norm(x, f"{block}.ln_2")
            inner = activation(self, self.linear(n, f"{block}.mlp.c_fc"), self.geometry.activation)
            x = self.op("Add", x, self.linear(inner, f"{block}.mlp.c_proj"))
        return x

    def _mask(self) -> str:
        """What may not be looked at: ``[T, T]`` later tokens, or ``[B, 1, 1, S]`` of the cache."""
        length = self.shapes.length
        if self.name != INCREMENT:
            later = np.triu(np.full((length, length), HIDDEN, np.float32), 1)
            return self.constant(later)
        at = self.shaped(self.op("Cast", POSITION, to=1), self.shapes.batch, 1)  # [B, 1]
        order = self.constant(np.arange(1, length + 1, dtype=np.float32)[None])  # [1, S]
        past = self.op("Sub", order, at)  # above 0 from the token's own position on
        low, high = (self.constant(np.array(n, np.float32)) for n in (0, 1))
        hidden = self.op("Mul", self.op("Clip", past, low, high), self.number(HIDDEN))
        return self.shaped(hidden, self.shapes.batch, 1, 1, length)

    def _attention(self, n: str, layer: int, mask: str) -> str:
        """``[B T, h] → [B T, h]``."""
        block = f"transformer.h.{layer}.attn"
        q, k, v = (self.linear(n, f"{block}.{third}") for third in _THIRDS)
        q = self._heads(q, 0, 2, 1, 3)  # [B, H, T, D]
        k = self._heads(k, 0, 2, 3, 1)  # [B, H, D, T]
        v = self._heads(v, 0, 2, 1, 3)  # [B, H, T, D]
        for kind, of, shape in (("key", k, self._key), ("value", v, self._value)):
            flat = (self.shapes.batch * shape[1], *shape[2:])
            self.caches[f"new_{kind}_{layer}"] = self.shaped(of, *flat)
        scale = self.geometry.attention_scale(layer)
        if scale != 1:
            q = self.op("Mul", q, self.number(scale))
        if self.name == INCREMENT:
            context = self._looked_up(q, k, v, layer, mask)
        else:
            scores = self.op("Add", self.op("MatMul", q, k), mask)  # [B, H, T, T]
            context = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        context = self.op("Transpose", context, perm=[0, 2, 1, 3])  # [B, T, H, D]
        return self.linear(self.shaped(context, self.rows, self.geometry.hidden), f"{block}.c_proj")

    def _looked_up(self, q: str, k: str, v: str, layer: int, mask: str) -> str:
        """A token over the cache and itself: ``[B, H, 1, D]``."""
        keys = self.shaped(f"key_{layer}", *self._key[:-1], self.shapes.length)
        before = self.op("Add", self.op("MatMul", q, keys), mask)  # [B, H, 1, S]
        own = self.op("MatMul", q, k)  # [B, H, 1, 1]
        shares = self.op("Softmax", self.op("Concat", before, own, axis=-1), axis=-1)
        length = self.shapes.length
        of_cache = self.cut(shares, 0, length)  # [B, H, 1, S]
        of_own = self.cut(shares, length, length + 1)  # [B, H, 1, 1]
        heads, width = self._value[1], self._value[-1]
        values = self.shaped(f"value_{layer}", self.shapes.batch, heads, length, width)
        cached = self.op("MatMul", of_cache, values)
        return self.op("Add", cached, self.op("Mul", of_own, v))

    @property
    def _key(self) -> tuple[int, ...]:
        """``[B, H, D, T]``."""
        g = self.geometry
        return (self.shapes.batch, g.heads, g.head_width, self.time)

    @property
    def _value(self) -> tuple[int, ...]:
        """``[B, H, T, D]``."""
        g = self.geometry
        return (self.shapes.batch, g.heads, self.time, g.head_width)

    def _heads(self, x: str, *order: int) -> str:
        """``[B T, h] → [B, T, H, D]``, its axes in an order."""
        g = self.geometry
        split = self.shaped(x, self.shapes.batch, self.time, g.heads, g.head_width)
        return self.op("Transpose", split, perm=list(order))

    def _logits(self, x: str) -> str:
        """``[B T, h]`` → of the last token of each row, or of all."""
        if self.name not in (INCREMENT, WHOLE):
            starts = np.arange(self.shapes.batch, dtype=np.int32) * self.time - 1
            x = self.op("Gather", x, self.op("Add", VALID, self.constant(starts)))  # [B, h]
        n = self.norm(x, "transformer.ln_f")
        table = self.weight(head_of(self.geometry))
        found = self.op("Gemm", n, table, transB=1)
        if self.name == WHOLE:
            return self.shaped(found, self.shapes.batch, self.time, self.geometry.vocab)
        return found

    def norm(self, x: str, name: str) -> str:
        """``(x - mean) / sqrt(var + epsilon) * g + b``."""
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1], keepdims=1))
        square = self.op("Mul", centred, centred)
        variance = self.op("ReduceMean", square, axes=[-1], keepdims=1)
        sigma = self.op("Sqrt", self.op("Add", variance, self.number(self.geometry.epsilon)))
        n = self.op("Div", centred, sigma)
        scaled = self.op("Mul", n, self.weight(f"{name}.weight"))
        return self.op("Add", scaled, self.weight(f"{name}.bias"))

    def linear(self, x: str, name: str) -> str:
        """``x W + b``."""
        return self.op("Gemm", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def shaped(self, x: str, *shape: int) -> str:
        """The same elements in another shape."""
        return self.op("Reshape", x, self.constant(np.array(shape, np.int64)))

    def cut(self, x: str, first: int, last: int) -> str:
        """``[first:last]`` of the last axis."""
        edges = (np.array([edge], np.int64) for edge in (first, last, 3))
        return self.op("Slice", x, *map(self.constant, edges))

    def number(self, value: float) -> str:
        """A constant that is one number."""
        return self.constant(np.array(value, np.float32))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output."""
        from onnx import helper  # noqa: PLC0415

        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, array: NDArray[Any]) -> str:
        """An array that is part of the graph, once."""
        from onnx import numpy_helper  # noqa: PLC0415

        digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
        name = f"c_{array.dtype}_{'x'.join(map(str, array.shape))}_{digest}"
        if name not in self.held:
            self.held[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str) -> str:
        """A tensor of the file of weights, as float32."""
        import onnx  # noqa: PLC0415

        placed = self.weights[name]
        if name not in self.held:
            tensor = onnx.TensorProto(name=name, dims=placed.shape)
            tensor.data_type = getattr(onnx.TensorProto, _TYPES[placed.kind])
            tensor.data_location = onnx.TensorProto.EXTERNAL
            where = {"location": WEIGHTS, "offset": placed.offset, "length": placed.size}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
            self.held[name] = tensor
        return name if placed.kind == "F32" else self._widened(name)

    def _widened(self, name: str) -> str:
        wide = f"{name}.float32"
        if not any(wide in node.output for node in self.nodes):
            from onnx import helper  # noqa: PLC0415

            self.nodes.append(helper.make_node("Cast", [name], [wide], to=1))
        return wide
