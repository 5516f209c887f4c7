"""GPT-2 as ONNX graphs of fixed shapes, the input of MindSpore Lite's converter to ``.ms``.

Only operators that MindSpore Lite 2.0.0 computes correctly are used: a layer norm with the sum of
squares as one operator is wrong there, so it is built from two means. Opset 13 has all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpt2dsl.layout.params import WPE, WTE, head_of
from gpt2dsl.lite.onnx_activations import activation
from gpt2dsl.lite.onnx_nodes import Nodes
from gpt2dsl.lite.onnx_weights import THIRDS, ExternalTensor
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

OPSET = 13
WEIGHTS = "weights.bin"


def graph(shapes: Shapes, name: str, weights: Mapping[str, ExternalTensor]) -> Any:
    """Return the ModelProto of a graph, whose weights are in ``WEIGHTS`` beside it."""
    return _Graph(shapes, name, weights).model()


class _Graph(Nodes):
    """Builder of a graph; each method returns the name of its output."""

    def __init__(self, shapes: Shapes, name: str, weights: Mapping[str, ExternalTensor]) -> None:
        super().__init__(weights)
        self.shapes, self.name = shapes, name
        self.geometry = shapes.geometry
        self.time = 1 if name == INCREMENT else shapes.length
        self.rows = shapes.batch * self.time
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

        proto = helper.make_graph(
            self.nodes,
            self.name,
            [described(port) for port in self.shapes.inputs(self.name)],
            [described(port) for port in ports],
            list(self.initializers.values()),
        )
        return helper.make_model(
            proto,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=8,
            producer_name="gpt2dsl",
        )

    def _embedded(self) -> str:
        """Add the embeddings, ``[B T, h]``."""
        h = self.geometry.hidden
        words = self.op("Gather", self.weight(WTE), IDS)  # [B, T, h]
        if self.name == INCREMENT:
            places = self.op("Gather", self.weight(WPE), POSITION)  # [B, h]
            return self.op("Add", self.shaped(words, self.rows, h), places)
        first = self.constant(np.arange(self.time, dtype=np.int32))
        places = self.op("Gather", self.weight(WPE), first)  # [T, h]
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
        """Add the attention mask: causal ``[T, T]``, or ``[B, 1, 1, S]`` over the cache."""
        length = self.shapes.length
        if self.name != INCREMENT:
            later = np.triu(np.full((length, length), HIDDEN, np.float32), 1)
            return self.constant(later)
        at = self.shaped(self.op("Cast", POSITION, to=1), self.shapes.batch, 1)  # [B, 1]
        order = self.constant(np.arange(1, length + 1, dtype=np.float32)[None])  # [1, S]
        past = self.op("Sub", order, at)  # positive from the token's own position on
        low, high = (self.constant(np.array(n, np.float32)) for n in (0, 1))
        hidden = self.op("Mul", self.op("Clip", past, low, high), self.number(HIDDEN))
        return self.shaped(hidden, self.shapes.batch, 1, 1, length)

    def _attention(self, n: str, layer: int, mask: str) -> str:
        """Add attention, ``[B T, h] → [B T, h]``."""
        block = f"transformer.h.{layer}.attn"
        q, k, v = (self.linear(n, f"{block}.{third}") for third in THIRDS)
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
        """Add attention of a token to the cache and itself, ``[B, H, 1, D]``."""
        keys = self.shaped(f"key_{layer}", *self._key[:-1], self.shapes.length)
        cached_scores = self.op("Add", self.op("MatMul", q, keys), mask)  # [B, H, 1, S]
        own_score = self.op("MatMul", q, k)  # [B, H, 1, 1]
        shares = self.op("Softmax", self.op("Concat", cached_scores, own_score, axis=-1), axis=-1)
        length = self.shapes.length
        of_cache = self.cut(shares, 0, length)  # [B, H, 1, S]
        of_own = self.cut(shares, length, length + 1)  # [B, H, 1, 1]
        heads, width = self._value[1], self._value[-1]
        values = self.shaped(f"value_{layer}", self.shapes.batch, heads, length, width)
        cached = self.op("MatMul", of_cache, values)
        return self.op("Add", cached, self.op("Mul", of_own, v))

    @property
    def _key(self) -> tuple[int, ...]:
        """Shape of the keys, ``[B, H, D, T]``."""
        g = self.geometry
        return (self.shapes.batch, g.heads, g.head_width, self.time)

    @property
    def _value(self) -> tuple[int, ...]:
        """Shape of the values, ``[B, H, T, D]``."""
        g = self.geometry
        return (self.shapes.batch, g.heads, self.time, g.head_width)

    def _heads(self, x: str, *order: int) -> str:
        """Split ``[B T, h]`` into ``[B, T, H, D]`` and transpose it."""
        g = self.geometry
        split = self.shaped(x, self.shapes.batch, self.time, g.heads, g.head_width)
        return self.op("Transpose", split, perm=list(order))

    def _logits(self, x: str) -> str:
        """Add the logits of each row's last token, or of all tokens, for ``x [B T, h]``."""
        if self.name not in (INCREMENT, WHOLE):
            starts = np.arange(self.shapes.batch, dtype=np.int32) * self.time - 1
            x = self.op("Gather", x, self.op("Add", VALID, self.constant(starts)))  # [B, h]
        n = self.norm(x, "transformer.ln_f")
        table = self.weight(head_of(self.geometry))
        logits = self.op("Gemm", n, table, transB=1)
        if self.name == WHOLE:
            return self.shaped(logits, self.shapes.batch, self.time, self.geometry.vocab)
        return logits

    def norm(self, x: str, name: str) -> str:
        """Add ``(x - mean) / sqrt(var + epsilon) * g + b``."""
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1], keepdims=1))
        square = self.op("Mul", centred, centred)
        variance = self.op("ReduceMean", square, axes=[-1], keepdims=1)
        sigma = self.op("Sqrt", self.op("Add", variance, self.number(self.geometry.epsilon)))
        n = self.op("Div", centred, sigma)
        scaled = self.op("Mul", n, self.weight(f"{name}.weight"))
        return self.op("Add", scaled, self.weight(f"{name}.bias"))

    def cut(self, x: str, first: int, last: int) -> str:
        """Slice the last axis, ``[first:last]``."""
        edges = (np.array([edge], np.int64) for edge in (first, last, 3))
        return self.op("Slice", x, *map(self.constant, edges))
