"""GPT-2 as one ONNX model for optimum, transformers.js and onnxruntime.

Inputs, outputs and letters are those of ``onnx_ports``, with S = P + T. Rows may be padded on
either side, as given by attention_mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import WPE, WTE, head_of
from gpt2dsl.lite.onnx_activations import activation
from gpt2dsl.lite.onnx_nodes import Nodes
from gpt2dsl.lite.onnx_ports import (
    ATTENTION_MASK,
    CLASSIFIES,
    GENERATES,
    INPUT_IDS,
    LOGITS,
    POSITION_IDS,
    SCORES,
    DynamicPort,
    inputs,
    outputs,
    past,
    present,
)
from gpt2dsl.lite.onnx_refusals import outside, refuse, refuse_shape
from gpt2dsl.lite.onnx_weights import THIRDS, ExternalTensor
from gpt2dsl.lite.shapes import HIDDEN

OPSET = 17
"""First opset with LayerNormalization."""

IR_VERSION = 8
"""IR version of opset 17: readers of these operators support it."""

FILE = "model.onnx"
WEIGHTS = "model.onnx_data"

_WORDS = {
    GENERATES: "the next token of each row, with a cache of keys and values that goes in and out",
    SCORES: "the token after each token of each row",
    CLASSIFIES: "the classes of each row",
}
_BOOL, _INT64 = 9, 7


def model(
    geometry: GPT2Config, task: str, limit: int, weights: Mapping[str, ExternalTensor]
) -> Any:
    """Return the ModelProto for a task of ``onnx_ports.TASKS``, with rows up to ``limit``."""
    return _Model(geometry, task, limit, weights).proto()


class _Model(Nodes):
    def __init__(
        self, geometry: GPT2Config, task: str, limit: int, weights: Mapping[str, ExternalTensor]
    ) -> None:
        super().__init__(weights)
        self.geometry, self.task, self.limit = geometry, task, limit
        shape = self.op("Shape", INPUT_IDS)
        self.batch, self.time = self._axis(shape, 0), self._axis(shape, 1)  # [1] each
        self.past, self.total = self.integers(0), self.time
        if task == GENERATES:
            self.past = self._axis(self.op("Shape", past(0, "key")), 2)
            self.total = self.op("Add", self.past, self.time)
        h, d = geometry.heads, geometry.head_width
        self.by_head = self._shape(self.batch, self.time, self.integers(h, d))
        self.of_cache = self._shape(self.batch, self.integers(h), self.total, self.integers(d))

    def proto(self) -> Any:
        from onnx import helper  # noqa: PLC0415  # an extra

        x = self._blocks(self._embedded())  # [B T, h]
        self._logits(x)
        graph = helper.make_graph(
            self.nodes,
            self.task,
            [_described(port) for port in inputs(self.geometry, self.task)],
            [_described(port) for port in outputs(self.geometry, self.task)],
            list(self.initializers.values()),
            doc_string=self._words(),
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="gpt2dsl",
            producer_version=metadata.version("gpt2dsl"),
            doc_string=self._words(),
        )

    def _words(self) -> str:
        return (
            f"GPT-2: {_WORDS[self.task]}. Rows have up to {self.limit} tokens with ids below "
            f"{self.geometry.vocab}. Inputs that it would answer wrongly end a run with an error "
            "that begins with what is wrong. README.md beside it has an example."
        )

    def _embedded(self) -> str:
        """Add the embeddings of checked inputs, ``[B T, h]``."""
        mask = self._mask()  # [B, S]
        is_token = self.op("Slice", mask, self.past, self.total, self.integers(1))
        is_token = self.op("Cast", is_token, to=_BOOL)  # [B, T]
        ids = self._checked(INPUT_IDS, is_token, self.geometry.vocab)
        positions = self._checked(self._positions(mask), is_token, self.limit, POSITION_IDS)
        words = self.op("Gather", self.weight(WTE), ids)
        places = self.op("Gather", self.weight(WPE), positions)
        self.bias = self._bias(mask)
        return self.shaped(self.op("Add", words, places), -1, self.geometry.hidden)

    def _mask(self) -> str:
        """Return the checked attention_mask, ``[B, S]``."""
        empty = self.op("Equal", self.time, self.integers(0))
        checks = [refuse(self, empty, "input_ids has no token")]
        expected, words = self._shape(self.batch, self.total), "[batch_size, sequence_length]"
        if self.task == GENERATES:
            words = "[batch_size, past_sequence_length + sequence_length]"
        checks.append(
            refuse_shape(self, ATTENTION_MASK, expected, f"attention_mask is not {words}")
        )
        mask = self._after(ATTENTION_MASK, checks)
        other = self.op("Not", self.op("Equal", self.op("Mul", mask, mask), mask))
        tokens = self.op("ReduceSum", mask, self.integers(1), keepdims=0)  # [B]
        none = self.op("Less", tokens, self.integers(1))
        checks = [
            refuse(self, other, "attention_mask has a value that is neither 0 nor 1"),
            refuse(self, none, "attention_mask has a row without a token"),
        ]
        return self._after(mask, checks)

    def _positions(self, mask: str) -> str:
        """Return the positions of new tokens, ``[B, T]``."""
        if self.task == CLASSIFIES:
            count = self.op("CumSum", mask, self.integers(1))
            return self.op("Sub", count, self.integers(1))
        words = "position_ids has another shape than input_ids"
        expected = self._shape(self.batch, self.time)
        return self._after(POSITION_IDS, [refuse_shape(self, POSITION_IDS, expected, words)])

    def _checked(self, x: str, is_token: str, limit: int, name: str = INPUT_IDS) -> str:
        """Return indices checked against a limit, with 0 for padding."""
        wrong = self.op("And", is_token, outside(self, x, limit))
        words = f"{name} has a value outside of 0 to {limit - 1}"
        if self.task == CLASSIFIES and name == POSITION_IDS:
            words = f"a row has more than {limit} tokens"
        check = refuse(self, wrong, words)
        return self.op("Where", is_token, self._after(x, [check]), self.integers(0))

    def _after(self, x: str, checks: list[str]) -> str:
        """Return integers unchanged, dependent on checks."""
        for check in checks:
            x = self.op("Add", x, check)
        return x

    def _bias(self, mask: str) -> str:
        """Return the bias of attention scores, ``[B, 1, T, S]``: 0 for the row's tokens so far."""
        zero, step = (self.integer(n) for n in (0, 1))
        first, end = (self.op("Squeeze", n, self.integers(0)) for n in (self.past, self.total))
        keys = self.op("Range", zero, end, step)  # [S]
        queries = self.op("Unsqueeze", self.op("Range", first, end, step), self.integers(1))
        is_past = self.op("Not", self.op("Less", queries, keys))  # [T, S]
        is_token = self.op("Cast", self.op("Unsqueeze", mask, self.integers(1, 2)), to=_BOOL)
        is_seen = self.op("And", is_token, is_past)
        return self.op("Where", is_seen, self.number(0.0), self.number(HIDDEN))

    def _blocks(self, x: str) -> str:
        for layer in range(self.geometry.layers):
            block = f"transformer.h.{layer}"
            x = self.op("Add", x, self._attention(self.norm(x, f"{block}.ln_1"), layer))
            inner = self.linear(self.norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
            inner = activation(self, inner, self.geometry.activation)
            x = self.op("Add", x, self.linear(inner, f"{block}.mlp.c_proj"))
        return x

    def _attention(self, n: str, layer: int) -> str:
        """Add attention, ``[B T, h] → [B T, h]``."""
        block = f"transformer.h.{layer}.attn"
        q, k, v = (self._heads(self.linear(n, f"{block}.{third}")) for third in THIRDS)
        scale = self.geometry.attention_scale(layer)
        if scale != 1:
            q = self.op("Mul", q, self.number(scale))
        if self.task == GENERATES:
            k, v = self._cached(k, layer, "key"), self._cached(v, layer, "value")  # [B, H, S, D]
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))  # [B, H, T, S]
        shares = self.op("Softmax", self.op("Add", scores, self.bias), axis=-1)
        context = self.op("MatMul", shares, v)
        context = self.op("Transpose", context, perm=[0, 2, 1, 3])  # [B, T, H, D]
        return self.linear(self.shaped(context, -1, self.geometry.hidden), f"{block}.c_proj")

    def _heads(self, x: str) -> str:
        """Split ``[B T, h]`` into heads, ``[B, H, T, D]``."""
        return self.op("Transpose", self.op("Reshape", x, self.by_head), perm=[0, 2, 1, 3])

    def _cached(self, new: str, layer: int, kind: str) -> str:
        """Append to the cache, ``[B, H, T, D] → [B, H, S, D]``; the result is an output."""
        input_name, output_name = past(layer, kind), present(layer, kind)
        words = f"{input_name} has other rows than input_ids"
        joined = self.named("Concat", input_name, new, name=words, axis=2)
        # Else a cache of another length could silently be broadcast to that of the others.
        words = f"{input_name} is not as long as {past(0, 'key')}"
        return self.named("Reshape", joined, self.of_cache, name=words, output=output_name)

    def _logits(self, x: str) -> None:
        """Add the logits of each token, or of each row's last, for ``x [B T, h]``."""
        if self.task == CLASSIFIES:
            x = self.op("Gather", x, self._last())  # [B, h]
        n = self.norm(x, "transformer.ln_f")
        head = self.weight(head_of(self.geometry))
        if self.task == CLASSIFIES:
            self.named("Gemm", n, head, name=LOGITS, transB=1)
            return
        shape = self._shape(self.batch, self.time, self.integers(self.geometry.vocab))
        self.named("Reshape", self.op("Gemm", n, head, transB=1), shape, name=LOGITS)

    def _last(self) -> str:
        """Return the flat index of each row's last token, ``[B]``."""
        zero, step = (self.integer(n) for n in (0, 1))
        time, batch = (self.op("Squeeze", n, self.integers(0)) for n in (self.time, self.batch))
        order = self.op("Range", zero, time, step)
        places = self.op("Mul", self.op("Cast", ATTENTION_MASK, to=_INT64), order)
        last = self.op("ReduceMax", places, axes=[1], keepdims=0)
        return self.op("Add", last, self.op("Mul", self.op("Range", zero, batch, step), time))

    def norm(self, x: str, name: str) -> str:
        """Add ``(x - mean) / sqrt(var + epsilon) * g + b``."""
        weights = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", x, *weights, epsilon=self.geometry.epsilon)

    def _axis(self, shape: str, axis: int) -> str:
        """Return one length of a shape, ``[1]``."""
        return self.op("Gather", shape, self.integers(axis))

    def _shape(self, *lengths: str) -> str:
        return self.op("Concat", *lengths, axis=0)


def _described(port: DynamicPort) -> Any:
    import onnx  # noqa: PLC0415  # an extra
    from onnx import helper  # noqa: PLC0415

    kind = onnx.TensorProto.INT64 if port.dtype == "int64" else onnx.TensorProto.FLOAT
    return helper.make_tensor_value_info(port.name, kind, port.shape, doc_string=port.words)
