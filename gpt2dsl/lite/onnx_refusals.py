"""Nodes that make a run fail on invalid inputs; the name of the failing node is the message.

ONNX has no operator that raises an error. A Reshape of one element into two fails in every runtime,
and onnxruntime's error begins with the node's name. Shapes are computed on the host, so this works
on accelerators too.
"""

from __future__ import annotations

from gpt2dsl.lite.onnx_nodes import Nodes

_BOOL, _INT64 = 9, 7


def refuse(graph: Nodes, wrong: str, words: str) -> str:
    """Add nodes that fail, the last under the name ``words``, if any element of ``wrong`` is true.

    Returns:
        A zero, int64 ``[1]``: values that it is added to depend on the check.
    """
    count = graph.op("ReduceSum", graph.op("Cast", wrong, to=_INT64), keepdims=0)
    is_wrong = graph.op("Cast", graph.op("Cast", count, to=_BOOL), to=_INT64)
    size = graph.op("Reshape", graph.op("Add", is_wrong, graph.integers(1)), graph.integers(1))
    return graph.named("Reshape", graph.integers(0), size, name=words)


def refuse_shape(graph: Nodes, x: str, shape: str, words: str) -> str:
    """Add nodes that fail unless an input has a shape; otherwise as ``refuse``."""
    is_equal = graph.op("Equal", graph.op("Shape", x), shape)
    return refuse(graph, graph.op("Not", is_equal), words)


def outside(graph: Nodes, x: str, limit: int) -> str:
    """Return the elementwise test of integers for ``x < 0 or x >= limit``."""
    below = graph.op("Less", x, graph.integers(0))
    above = graph.op("Less", graph.integers(limit - 1), x)
    return graph.op("Or", below, above)
