"""The ONNX model that Hugging Face's tools run: right on padded rows, and loud on wrong inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from gpt2dsl.errors import RunError
from gpt2dsl.lite import onnx_ports, opening
from gpt2dsl.lite.onnx_decoder import CHUNK, OnnxDecoder, empty_caches
from gpt2dsl.lite.onnx_ports import CLASSIFIES, GENERATES
from gpt2dsl.lite.runtimes.base import Arrays, GraphRuntime
from gpt2dsl.lite.shapes import Shapes
from tests.judges import TINY, hugging_face, random_ids, random_weights
from tests.lite.graphs import exported

LIMIT = 72
"""Fewer than the network's 80 positions, and more than a chunk of a prompt."""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphRuntime]:
    folder = tmp_path_factory.mktemp("model")
    described = exported(folder, "onnx", Shapes(TINY, 2, LIMIT))
    with opening.runtime(folder, described) as opened:
        yield opened


def feeds(rows: int = 3, time: int = 4, past: int = 3) -> Arrays:
    """Inputs of which the caches hold something, and whose first row is filled up on the left."""
    mask = np.ones((rows, past + time), np.int64)
    mask[0, :2] = 0
    random = np.random.default_rng(3)
    caches = {
        name: random.normal(size=(rows, TINY.heads, past, TINY.head_width)).astype(np.float32)
        for name in empty_caches(TINY, rows)
    }
    return {
        "input_ids": random_ids(TINY, rows, time).astype(np.int64),
        "attention_mask": mask,
        "position_ids": np.maximum(mask.cumsum(1) - 1, 0)[:, past:],
        **caches,
    }


@pytest.mark.parametrize("side", ["left", "right", "hole"])
def test_logits_of_padded_rows_are_those_of_each_row_alone(
    runtime: GraphRuntime, side: str
) -> None:
    judge = hugging_face(TINY, random_weights(TINY))
    rows = [random_ids(TINY, 1, length, seed=length)[0] for length in (9, 1, 6)]
    mask = np.zeros((3, 9), np.int64)
    for i, row in enumerate(rows):
        places = {"left": range(9 - len(row), 9), "right": range(len(row))}
        mask[i, list(places.get(side, range(0, 9, 9 // len(row)))[: len(row)])] = 1
    ids = np.full((3, 9), 10**6)
    ids[mask == 1] = np.concatenate(rows)
    positions = mask.cumsum(1) - 1
    fed = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    found = runtime.run(GENERATES, fed | empty_caches(TINY, 3))["logits"]
    for i, row in enumerate(rows):
        expected = judge(torch.tensor(row[None].astype(np.int64))).logits[0].detach().numpy()
        assert np.abs(found[i][mask[i] == 1] - expected).max() < 1e-5


def with_value(name: str, *at: int, value: int) -> Callable[[Arrays], Any]:
    def change(inputs: Arrays) -> None:
        inputs[name] = inputs[name].copy()
        inputs[name][at] = value

    return change


def replaced(name: str, make: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Arrays], Any]:
    def change(inputs: Arrays) -> None:
        inputs[name] = make(inputs[name])

    return change


def without_tokens(inputs: Arrays) -> None:
    for name in ("input_ids", "position_ids"):
        inputs[name] = inputs[name][:, :0]
    inputs["attention_mask"] = inputs["attention_mask"][:, :3]


SHAPE = r"attention_mask is not \[batch_size, past_sequence_length \+ sequence_length\]"
KEY, VALUE = "past_key_values.1.key", "past_key_values.1.value"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_value("input_ids", 2, 1, value=-1), "input_ids has a value outside of 0 to 300"),
        (with_value("input_ids", 0, 3, value=301), "input_ids has a value outside of 0 to 300"),
        (with_value("input_ids", 1, 0, value=-(2**63)), "input_ids has a value outside"),
        (with_value("position_ids", 1, 0, value=-1), "position_ids has a value outside of 0 to 71"),
        (with_value("position_ids", 1, 3, value=72), "position_ids has a value outside of 0 to 71"),
        (replaced("position_ids", lambda x: x[:1]), "position_ids has another shape than"),
        (replaced("position_ids", lambda x: x[:, :1]), "position_ids has another shape than"),
        (with_value("attention_mask", 1, 0, value=2), "a value that is neither 0 nor 1"),
        (with_value("attention_mask", 1, 0, value=2**32), "a value that is neither 0 nor 1"),
        (with_value("attention_mask", 1, 0, value=-1), "a value that is neither 0 nor 1"),
        (with_value("attention_mask", 1, value=0), "attention_mask has a row without a token"),
        (with_value("attention_mask", value=0), "attention_mask has a row without a token"),
        (replaced("attention_mask", lambda x: x[:, :4]), SHAPE),
        (replaced("attention_mask", lambda x: x[:, :1]), SHAPE),
        (replaced("attention_mask", lambda x: x[:1]), SHAPE),
        (replaced("attention_mask", lambda x: x.T.copy()), SHAPE),
        (replaced(KEY, lambda x: x[:, :, :2]), f"{KEY} is not as long as past_key_values.0.key"),
        (replaced(KEY, lambda x: x[:, :, :0]), f"{KEY} is not as long as past_key_values.0.key"),
        (replaced(VALUE, lambda x: x[:, :, :1]), f"{VALUE} is not as long as"),
        (replaced(VALUE, lambda x: x[:1]), f"{VALUE} has other rows than input_ids"),
        (replaced("past_key_values.0.key", lambda x: x[:, :, 1:]), SHAPE),
        (replaced(KEY, lambda x: x[:, :1]), "Got: 1 Expected: 3"),
        (without_tokens, "input_ids has no token"),
        (replaced("input_ids", lambda x: x[:, :0]), "position_ids has another shape than"),
        (replaced("input_ids", lambda x: x[0]), "Invalid rank for input"),
        (replaced("attention_mask", lambda x: x.astype(np.float32)), "Unexpected input data type"),
    ],
)
def test_inputs_that_would_be_answered_wrongly_end_the_run(
    runtime: GraphRuntime, change: Callable[[Arrays], Any], words: str
) -> None:
    inputs = feeds()
    right = runtime.run(GENERATES, dict(inputs))
    assert np.isfinite(right["logits"]).all()
    change(inputs)
    with pytest.raises(RunError, match=words):
        runtime.run(GENERATES, inputs)


def test_what_fills_a_row_up_has_no_effect(runtime: GraphRuntime) -> None:
    inputs = feeds(past=0)
    inputs["attention_mask"] = np.array([[0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]])
    first = runtime.run(GENERATES, inputs)
    filled = inputs["attention_mask"] == 0
    for name in ("input_ids", "position_ids"):
        inputs[name] = np.where(filled, -7, inputs[name])
    second = runtime.run(GENERATES, inputs)
    assert np.array_equal(first["logits"][~filled], second["logits"][~filled])


def test_a_classifier_refuses_too_and_takes_padding_on_both_sides(tmp_path: Path) -> None:
    geometry = attrs.evolve(TINY, labels=3)
    described = exported(tmp_path, "onnx", Shapes(geometry, 2, 8))
    ids = random_ids(TINY, 1, 5)[0].astype(np.int64)
    filled = np.zeros((2, 8), np.int64)
    filled[0, :5], filled[1, 3:] = ids, ids
    mask = np.array([[1] * 5 + [0] * 3, [0] * 3 + [1] * 5])
    with opening.runtime(tmp_path, described) as opened:
        alone = opened.run(
            CLASSIFIES, {"input_ids": ids[None], "attention_mask": np.ones((1, 5), np.int64)}
        )["logits"]
        both = opened.run(CLASSIFIES, {"input_ids": filled, "attention_mask": mask})["logits"]
        assert np.abs(both - alone).max() < 1e-5
        long = np.ones((1, 9), np.int64)
        for wrong, words in (
            ({"input_ids": filled, "attention_mask": mask * 0}, "a row without a token"),
            ({"input_ids": filled, "attention_mask": mask[:, :1]}, "attention_mask is not"),
            ({"input_ids": filled - 1, "attention_mask": mask + 1 - mask}, "input_ids has a value"),
            ({"input_ids": long, "attention_mask": long}, "a row has more than 8 tokens"),
        ):
            with pytest.raises(RunError, match=words):
                opened.run(CLASSIFIES, wrong)


def test_the_model_explains_itself(tmp_path: Path) -> None:
    described = exported(tmp_path, "onnx", Shapes(TINY, 2, LIMIT))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx_data"]
    model = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False)
    assert "Rows have up to 72 tokens with ids below 301" in model.doc_string
    assert "a cache of keys and values" in model.graph.doc_string
    assert described.task == model.graph.name == "text-generation-with-past"
    for ports, expected in (
        (model.graph.input, onnx_ports.inputs(TINY, GENERATES)),
        (model.graph.output, onnx_ports.outputs(TINY, GENERATES)),
    ):
        assert [(port.name, port.doc_string) for port in ports] == [
            (port.name, port.words) for port in expected
        ]
        assert all(port.doc_string for port in ports)


def test_rows_join_and_leave_a_decoder_in_any_order(runtime: GraphRuntime) -> None:
    judge = hugging_face(TINY, random_weights(TINY))

    def expected(ids: list[int]) -> Any:
        return judge(torch.tensor([ids])).logits[0, -1].detach().numpy()

    def is_right(logits: Any, row: int) -> bool:
        return bool(np.abs(logits - expected(texts[row])).max() < 1e-5)

    decoder = OnnxDecoder(runtime, TINY, LIMIT, 3)
    decoder.reserve(LIMIT)
    long = random_ids(TINY, 1, CHUNK + 3)[0].tolist()
    texts = {0: long[:5], 2: list(long)}
    found = decoder.prefill([2, 0], [texts[2], texts[0]])
    assert is_right(found[0], 2)
    assert is_right(found[1], 0)
    decoder.release(2)
    for step in range(CHUNK):
        if step == 30:
            texts[1] = long[7:9]
            assert is_right(decoder.prefill([1], [texts[1]])[0], 1)
        tokens = np.array([step, step + 1, 0], np.int32)
        scores = decoder.step(tokens)
        for row in (0, 1):
            if row in texts:
                texts[row].append(int(tokens[row]))
        if step % 9 == 0 or step in (30, 31, 32):
            assert all(is_right(scores[row], row) for row in (0, 1) if row in texts)
    decoder.reorder(np.array([1, 0]))
    texts = {0: [*texts[1], 4], 1: texts[0]}
    assert is_right(decoder.step(np.array([4], np.int32))[0], 0)


def test_a_decoder_forgets_slots_that_nobody_needs(runtime: GraphRuntime) -> None:
    decoder = OnnxDecoder(runtime, TINY, LIMIT, 2)
    for _ in range(9):
        decoder.prefill([0], [[1, 2, 3] * 8])
        for _ in range(20):
            decoder.step(np.array([5, 6], np.int32))
        decoder.release(0)
    assert decoder._mask.shape[1] < 2 * LIMIT
