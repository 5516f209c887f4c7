"""Verification of exported graphs against MindSpore, on random ids and on real text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.errors import RunError
from gpt2dsl.lite import onnx_ports
from gpt2dsl.lite.decoder import ExportedDecoder
from gpt2dsl.lite.onnx_decoder import OnnxDecoder, empty_caches
from gpt2dsl.lite.runtimes.base import GraphRuntime
from gpt2dsl.lite.shapes import CLASSIFY, IDS, LOGITS, PREFILL, VALID, WHOLE, Shapes

TOLERANCE = 1e-3
"""Absolute tolerance of logits, scaled by a hundredth of the largest one if that is above 1.

Correct exports differ by about 1e-6."""

STEPS = 3
"""Decoding steps that are compared after each prompt."""

Ids = NDArray[np.int32]
Logits = NDArray[np.float32]
Reference = Callable[[Ids, Ids], Logits]
"""``[B, S] ids, [B] valid`` → MindSpore's logits: ``[B, S, V]``, or ``[B, C]`` of a classifier."""


def verify(
    runtime: GraphRuntime,
    shapes: Shapes,
    graphs: tuple[str, ...],
    reference: Reference,
    real: list[int],
) -> float:
    """Return the largest difference between exported and reference logits.

    Args:
        runtime: runtime of the graphs.
        shapes: shapes of the graphs.
        graphs: names of the exported graphs.
        reference: computes MindSpore's logits.
        real: ids of a text.

    Raises:
        RunError: logits differ by more than the tolerance, or are not finite (G2-533).
    """
    largest, allowed = 0.0, TOLERANCE
    for ids, valid in _rows(shapes, real):
        expected = reference(ids, valid)
        allowed = max(allowed, TOLERANCE * float(np.abs(expected).max()) / 100)
        for actual, desired in _pairs(
            runtime, shapes, graphs, ids=ids, valid=valid, expected=expected
        ):
            difference = np.abs(actual - desired).max()
            largest = max(largest, float(difference) if np.isfinite(difference) else np.inf)
    if not largest <= allowed:
        raise RunError(
            "G2-533",
            f"the exported graphs are wrong: in {runtime.name} a logit differs by {largest:.2g} "
            f"from MindSpore's, and {allowed:.2g} is allowed",
        )
    return largest


def _rows(shapes: Shapes, real: list[int]) -> Iterator[tuple[Ids, Ids]]:
    """Yield random ids, then real ones, each with rows of several lengths."""
    random = np.random.default_rng(0)
    size = (shapes.batch, shapes.length)
    text = np.resize(np.array(real, np.int32), size)
    for ids in (random.integers(0, shapes.geometry.vocab, size).astype(np.int32), text):
        last = max(1, shapes.length - STEPS)
        valid = random.integers(1, last + 1, shapes.batch).astype(np.int32)
        valid[0] = last
        yield ids, valid


def _pairs(
    runtime: GraphRuntime,
    shapes: Shapes,
    graphs: tuple[str, ...],
    *,
    ids: Ids,
    valid: Ids,
    expected: Logits,
) -> Iterator[tuple[Logits, Logits]]:
    """Yield the logits of the graphs, each with the expected logits."""
    rows = np.arange(shapes.batch)
    if CLASSIFY in graphs:
        yield runtime.run(CLASSIFY, {IDS: ids, VALID: valid})[LOGITS], expected
    if WHOLE in graphs:
        yield runtime.run(WHOLE, {IDS: ids})[LOGITS], expected
    if onnx_ports.CLASSIFIES in graphs:
        fed, _ = _left_filled(ids, valid)
        yield runtime.run(onnx_ports.CLASSIFIES, fed)[LOGITS], expected
    for task in {onnx_ports.SCORES, onnx_ports.GENERATES} & set(graphs):
        fed, is_token = _left_filled(ids, valid)
        fed[onnx_ports.POSITION_IDS] = np.maximum(is_token.cumsum(1) - 1, 0)
        if task == onnx_ports.GENERATES:
            fed |= empty_caches(shapes.geometry, shapes.batch)
        is_compared = np.arange(shapes.length) < valid[:, None]
        yield runtime.run(task, fed)[LOGITS][is_token], expected[is_compared]
    decoder: ExportedDecoder | OnnxDecoder
    if onnx_ports.GENERATES in graphs:
        decoder = OnnxDecoder(runtime, shapes.geometry, shapes.length, shapes.batch)
    elif PREFILL in graphs:
        decoder = ExportedDecoder(runtime, shapes, shapes.geometry.vocab)
    else:
        return
    prompts = [row[:length].tolist() for row, length in zip(ids, valid, strict=True)]
    yield decoder.prefill(rows.tolist(), prompts), expected[rows, valid - 1]
    for at in range(min(STEPS, shapes.length - int(valid.max()))):
        yield decoder.step(ids[rows, valid + at]), expected[rows, valid + at]


def _left_filled(ids: Ids, valid: Ids) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """Return left-padded rows as graph inputs, and a mask of their tokens."""
    length = ids.shape[1]
    is_token = np.arange(length) >= length - valid[:, None]
    filled = np.zeros(ids.shape, np.int64)
    filled[is_token] = ids[np.arange(length) < valid[:, None]]
    return {
        onnx_ports.INPUT_IDS: filled,
        onnx_ports.ATTENTION_MASK: is_token.astype(np.int64),
    }, is_token
