"""Inputs and outputs of ONNX models: Hugging Face's names, dynamic axes and descriptions.

Tasks have optimum's names. Letters: B batch size, T new tokens of each row, P tokens of each row in
the KV cache, H heads, D head width, V vocabulary size, C classes.
"""

from __future__ import annotations

import attrs

from gpt2dsl.layout.config import GPT2Config

GENERATES = "text-generation-with-past"
SCORES = "text-generation"
CLASSIFIES = "text-classification"
TASKS = (GENERATES, SCORES, CLASSIFIES)

INPUT_IDS, ATTENTION_MASK, POSITION_IDS = "input_ids", "attention_mask", "position_ids"
LOGITS = "logits"

_IDS_WORDS = "Ids of tokens. Where attention_mask is 0 they have no effect."
_MASK_WORDS = (
    "1 for each token of a row, those in the cache first, and 0 where a shorter row is filled up; "
    "each row has at least one 1."
)
_POSITION_WORDS = "The number of each new token in its row, from 0, not counting what fills up."


@attrs.frozen
class DynamicPort:
    """An input or an output, with a number for each static axis and a name for each dynamic one."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    words: str


def task_of(geometry: GPT2Config, *, cache: bool) -> str:
    """Return the task of a network."""
    if geometry.labels:
        return CLASSIFIES
    return GENERATES if cache else SCORES


def past(layer: int, kind: str) -> str:
    """Return the input name of a layer's keys or values."""
    return f"past_key_values.{layer}.{kind}"


def present(layer: int, kind: str) -> str:
    """Return the output name of a layer's keys or values."""
    return f"present.{layer}.{kind}"


def inputs(geometry: GPT2Config, task: str) -> tuple[DynamicPort, ...]:
    """Return the inputs of a model."""
    ids = DynamicPort(INPUT_IDS, ("batch_size", "sequence_length"), "int64", _IDS_WORDS)
    mask_length = (
        "past_sequence_length + sequence_length" if task == GENERATES else "sequence_length"
    )
    mask = DynamicPort(ATTENTION_MASK, ("batch_size", mask_length), "int64", _MASK_WORDS)
    if task == CLASSIFIES:
        return (ids, mask)
    position = DynamicPort(POSITION_IDS, ids.shape, "int64", _POSITION_WORDS)
    if task == SCORES:
        return (ids, mask, position)
    words = "as present.{layer}.{kind} gave them; of length 0 at first."
    return (ids, mask, position, *_caches(geometry, "past", "past_sequence_length", words))


def outputs(geometry: GPT2Config, task: str) -> tuple[DynamicPort, ...]:
    """Return the outputs of a model."""
    if task == CLASSIFIES:
        words = "A score of each class, from the last token of each row."
        return (DynamicPort(LOGITS, ("batch_size", geometry.labels), "float32", words),)
    words = "After each token, a score of each id as the next one."
    shape = ("batch_size", "sequence_length", geometry.vocab)
    logits = DynamicPort(LOGITS, shape, "float32", words)
    if task == SCORES:
        return (logits,)
    words = "those that went in, and the new tokens' behind them."
    length = "past_sequence_length + sequence_length"
    return (logits, *_caches(geometry, "present", length, words))


def _caches(
    geometry: GPT2Config, direction: str, length: str, words: str
) -> tuple[DynamicPort, ...]:
    shape = ("batch_size", geometry.heads, length, geometry.head_width)
    named = past if direction == "past" else present
    return tuple(
        DynamicPort(
            named(layer, kind),
            shape,
            "float32",
            f"{kind.capitalize()}s of layer {layer}: {words.format(layer=layer, kind=kind)}",
        )
        for layer in range(geometry.layers)
        for kind in ("key", "value")
    )
