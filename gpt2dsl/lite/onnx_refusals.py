"""Nodes that end a run on inputs that a model would answer wrongly: their names say what is wrong.

ONNX has no operator that raises. A Reshape of one element into two does in every runtime, and the
error that onnxruntime raises begins with the node's name. Shapes are computed on the host, so that
this holds for accelerators too.
"""

from __future__ import annotations

from gpt2dsl.lite.onnx_nodes import Nodes

_BOOL, _INT64 = 9, 7


def refuse(graph: Nodes, wrong: str, words: str) -> str:
    """End the run where a condition holds.

    Args:
        graph: to add nodes to.
        wrong: the condition, bool of any shape; one element is enough.
        words: the name of the node that fails.

    Returns:
        A 0 of int64, ``[1]``: what it is added to is not computed before the condition is known.
    """
    count = graph.op("ReduceSum", graph.op("Cast", wrong, to=_INT64), keepdims=0)
    is_wrong = graph.op("Cast", graph.op("Cast", count, to=_BOOL), to=_INT64)
    size = graph.op("Reshape", graph.op("Add", is_wrong, graph.integers(1)), graph.integers(1))
    return graph.named("Reshape", graph.integers(0), size, name=words)


def refuse_shape(graph: Nodes, x: str, shape: str, words: str) -> str:
    """End the run unless an input has a shape; else as ``refuse``."""
    is_equal = graph.op("Equal", graph.op("Shape", x), shape)
    return refuse(graph, graph.op("Not", is_equal), words)


def outside(graph: Nodes, x: str, limit: int) -> str:
    """Return whether integers are below 0 or not below a limit, element by element."""
    below = graph.op("Less", x, graph.integers(0))
    above = graph.op("Less", graph.integers(limit - 1), x)
    return graph.op("Or", below, above)
