"""Checkpoints as a training writes them, of random values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.schema.folder import TRAINING_STATE
from gpt2dsl.weights import reading, resharding, store, training_state
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.formats.config import to_config
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.resharding import Target, TrainingState
from tests.judges import random_weights

WIDE = GPT2Config(layers=5, heads=8, hidden=32, positions=16, vocab=301, inner=48)
"""All of mp = 1, 2, 4, 8 and pp up to 5 can split it."""

Values = dict[str, NDArray[Any]]
DOCUMENT = {"step": 3, "updates": 3, "loss_scale": None, "data": "d", "tokenizer": "t"}


def whole(
    folder: Path,
    geometry: GPT2Config = WIDE,
    states: tuple[str, ...] = ("m", "v"),
    kind: str = "F32",
) -> Path:
    """A checkpoint with moments."""
    padded = attrs.evolve(geometry, vocab=geometry.padded_vocab)
    moments = {
        f"{state}.{name}": array
        for number, state in enumerate(states, 1)
        for name, array in random_weights(geometry if state == "master" else padded, number).items()
    }
    with store.writing(folder, {"step": 3}) as new:
        huggingface.write(new, geometry, random_weights(geometry), kind=kind)
        training_state.write(new, moments, DOCUMENT)
    return folder


def reshard(source: Path, target: Path, layout: Target, *, training: bool = True) -> str:
    """As the engine does it; returns the digest."""
    weights = reading.read(source)
    content = attrs.evolve(
        weights,
        config={**to_config(weights.geometry), **weights.config},
        tokenizer=None,
        defaults=Defaults(),
    )
    state = TrainingState.of(weights.path, weights.geometry, Overrides()) if training else None
    return resharding.write(target, content, state, layout, source=source, moved=lambda _: None)


def values(folder: Path) -> Values:
    """Everything that a checkpoint holds, whole, in its own element types."""
    found = dict(reading.read(folder).tensors)
    if (folder / TRAINING_STATE).exists():
        found |= training_state.stored(folder, Overrides())
    return {name: one.rows(0, one.length).reshape(one.shape) for name, one in found.items()}


def equal(one: Values, other: Values) -> None:
    """Fails where a tensor of one is not that of the other, bit for bit."""
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name, strict=True)
