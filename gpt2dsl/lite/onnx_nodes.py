"""Builder of ONNX graphs: each method adds nodes and returns the name of their output."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.lite.onnx_weights import ExternalTensor

_TYPES = {"F32": "FLOAT", "F16": "FLOAT16"}


class Nodes:
    """The nodes of a graph in topological order, with its constants and weights by name."""

    def __init__(self, weights: Mapping[str, ExternalTensor]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.named(kind, *inputs, name=f"{kind}_{len(self.nodes)}", **attributes)

    def named(self, kind: str, *inputs: str, name: str, output: str = "", **attributes: Any) -> str:
        """Add a node under a name, which is also its output's unless ``output`` is given."""
        from onnx import helper  # noqa: PLC0415  # an extra

        output = output or name
        node = helper.make_node(kind, list(inputs), [output], name=name, **attributes)
        self.nodes.append(node)
        return output

    def linear(self, x: str, name: str) -> str:
        """Add ``x W + b``."""
        return self.op("Gemm", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def shaped(self, x: str, *shape: int) -> str:
        """Add a reshape."""
        return self.op("Reshape", x, self.integers(*shape))

    def integers(self, *values: int) -> str:
        """Add an int64 constant, ``[values]``."""
        return self.constant(np.array(values, np.int64))

    def integer(self, value: int) -> str:
        """Add an int64 scalar."""
        return self.constant(np.array(value, np.int64))

    def number(self, value: float) -> str:
        """Add a float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def constant(self, array: NDArray[Any]) -> str:
        """Add a constant, unless the graph has it already."""
        from onnx import numpy_helper  # noqa: PLC0415

        digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
        name = f"c_{array.dtype}_{'x'.join(map(str, array.shape))}_{digest}"
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str) -> str:
        """Add a tensor of the weights file, cast to float32."""
        import onnx  # noqa: PLC0415

        placed = self.weights[name]
        if name not in self.initializers:
            tensor = onnx.TensorProto(name=name, dims=placed.shape)
            tensor.data_type = getattr(onnx.TensorProto, _TYPES[placed.kind])
            tensor.data_location = onnx.TensorProto.EXTERNAL
            where = {"location": placed.file, "offset": placed.offset, "length": placed.size}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
            self.initializers[name] = tensor
        return name if placed.kind == "F32" else self._widened(name)

    def _widened(self, name: str) -> str:
        wide = f"{name}.float32"
        if not any(wide in node.output for node in self.nodes):
            self.named("Cast", name, name=wide, to=1)
        return wide
