"""Judges of parity: transformers and torch, in float64 where that fits."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2Config as HFConfig
from transformers import GPT2LMHeadModel

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import HEAD, param_specs
from gpt2dsl.weights.formats.config import to_config

TINY = GPT2Config(layers=2, heads=3, hidden=24, positions=80, vocab=301, inner=50, dropout=0.0)
"""Small and odd: nothing in it is a power of two."""


def random_weights(geometry: GPT2Config, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Weights large enough that every part of the network matters."""
    random = np.random.default_rng(seed)
    return {
        tensor.name: (
            random.normal(size=tensor.shape) * 0.2
            + (tensor.name.endswith(("1.weight", "2.weight")))
        ).astype(np.float32)
        for tensor in param_specs(geometry)
    }


def random_ids(geometry: GPT2Config, *shape: int, seed: int = 1) -> NDArray[np.int32]:
    """Ids of the vocabulary."""
    return np.random.default_rng(seed).integers(0, geometry.vocab, shape).astype(np.int32)


def redraw(model: torch.nn.Module, scale: float = 0.2) -> None:
    """Draw every parameter of a model anew, so large that it matters."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * scale)


def hugging_face(geometry: GPT2Config, arrays: dict[str, Any], *, double: bool = True) -> Any:
    """transformers' GPT2LMHeadModel with these weights."""
    if double:  # transformers refuses float64 where scores are to be float32
        geometry = attrs.evolve(geometry, upcast_attention=False)
    config = HFConfig(**to_config(geometry.with_dropout(0.0)), attn_implementation="eager")
    config.dtype = torch.float32
    model = GPT2LMHeadModel(config).eval()
    state = {name: torch.tensor(np.array(array)) for name, array in arrays.items()}
    found = model.load_state_dict(state, strict=False)
    assert set(found.missing_keys) <= ({HEAD} if geometry.tied else set())
    assert not found.unexpected_keys
    return model.double() if double else model
