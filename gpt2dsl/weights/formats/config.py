"""Hugging Face's config.json ↔ :class:`Geometry`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt2dsl.errors import InputError
from gpt2dsl.layout.geometry import Geometry

ACTIVATIONS = {
    "gelu_new": "gelu_new",
    "gelu": "gelu",
    # MindSpore's FastGeLU, x exp(0.851 (x - |x|)) / (1 + exp(-1.702 |x|)), is x sigmoid(1.702 x).
    "quick_gelu": "fast_gelu",
    "relu": "relu",
    # Other names that transformers has for the tanh form.
    "gelu_fast": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
}
"""Name on disk → name of a geometry; the first one of equal values is written."""

LARGEST, MOST_LAYERS = 2**24, 2**12
"""Of the numbers of a network; larger ones would take long to be refused by their tensors."""

_REFUSED = {
    "scale_attn_by_inverse_layer_idx": True,
    "add_cross_attention": True,
    "tie_word_embeddings": False,
}
"""Options of transformers that make another network."""

_CLASSIFIER = "GPT2ForSequenceClassification"


def to_config(
    geometry: Geometry, eos: int | None = None, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """The config.json of a network.

    Args:
        geometry: the network.
        eos: the tokenizer's end-of-text id; the last one, as GPT-2 has it, where it is None.
        classes: names of a classifier's classes; LABEL_0 and so on where there are none.
    """
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    end = geometry.vocab - 1 if eos is None else eos
    config: dict[str, Any] = {
        "architectures": [_CLASSIFIER if geometry.labels else "GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": geometry.vocab,
        "n_positions": geometry.positions,
        "n_ctx": geometry.positions,
        "n_embd": geometry.hidden,
        "n_layer": geometry.layers,
        "n_head": geometry.heads,
        "n_inner": geometry.inner or None,
        "activation_function": names[geometry.activation],
        "resid_pdrop": geometry.dropout,
        "embd_pdrop": geometry.dropout,
        "attn_pdrop": geometry.dropout,
        "layer_norm_epsilon": geometry.epsilon,
        "scale_attn_weights": geometry.scale_attention,
        "initializer_range": 0.02,
        "bos_token_id": end,
        "eos_token_id": end,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "dtype": "float32",
    }
    if geometry.labels:
        labels = classes or [f"LABEL_{i}" for i in range(geometry.labels)]
        config["id2label"] = {str(i): label for i, label in enumerate(labels)}
        config["label2id"] = {label: i for i, label in enumerate(labels)}
        # Without it transformers classifies no more than one text at a time.
        config["pad_token_id"] = end
    return config


def from_config(config: dict[str, Any], path: Path) -> Geometry:
    """The network that a config.json describes.

    A key that is left out has transformers' default. Of the three dropouts ours is the residual
    one: they differ in no published GPT-2, and recipes have one.

    Args:
        config: the content.
        path: its file, for messages.

    Raises:
        InputError: it is another kind of network, or no network (G2-306).
    """
    read = _Reader(config, path)
    if config.get("model_type") != "gpt2":
        raise read.refused("model_type", "gpt2 is expected")
    for key, wrong in _REFUSED.items():
        if config.get(key) is wrong:
            raise read.refused(key, "no such network is built here")
    activation = config.get("activation_function", "gelu_new")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise read.refused("activation_function", f"one of {', '.join(ACTIVATIONS)} is expected")
    geometry = Geometry(
        layers=read.count("n_layer", "num_hidden_layers", 12, most=MOST_LAYERS),
        heads=read.count("n_head", "num_attention_heads", 12),
        hidden=read.count("n_embd", "hidden_size", 768),
        positions=read.count("n_positions", "max_position_embeddings", 1024),
        vocab=read.count("vocab_size", "", 50257),
        inner=0 if config.get("n_inner") is None else read.count("n_inner", "", 0),
        activation=ACTIVATIONS[activation],
        dropout=read.real("resid_pdrop", 0.1, below=1.0),
        epsilon=read.real("layer_norm_epsilon", 1e-5, below=math.inf),
        scale_attention=config.get("scale_attn_weights", True) is not False,
        labels=_labels(config),
    )
    if geometry.hidden % geometry.heads:
        raise read.refused("n_head", f"it does not divide n_embd = {geometry.hidden}")
    return geometry


def class_names(config: dict[str, Any]) -> tuple[str, ...]:
    """The names of a classifier's classes, as a config.json has them; () where it has none."""
    names = config.get("id2label")
    if not isinstance(names, dict):
        return ()
    found = [names.get(str(i)) for i in range(len(names))]
    return tuple(map(str, found)) if None not in found else ()


def problem(config: dict[str, Any]) -> str:
    """What a classifier tells, where it is not one class of several; else ""."""
    named = config.get("problem_type")
    if named not in (None, "single_label_classification"):
        return str(named)
    return "regression" if _labels(config) == 1 else ""


def _labels(config: dict[str, Any]) -> int:
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or _CLASSIFIER not in architectures:
        return 0
    labels = config.get("id2label")
    if isinstance(labels, dict) and labels:
        return len(labels)
    number = config.get("num_labels")
    return number if type(number) is int and number > 0 else 2


class _Reader:
    """Reads numbers and says what is wrong with them."""

    def __init__(self, config: dict[str, Any], path: Path) -> None:
        self.config = config
        self.path = path

    def refused(self, key: str, message: str) -> InputError:
        value = repr(self.config[key]) if key in self.config else "absent"
        return InputError("G2-306", self.path, f"{key} is {value}: {message}")

    def count(self, key: str, alias: str, default: int, *, most: int = LARGEST) -> int:
        key = alias if alias in self.config and key not in self.config else key
        value = self.config.get(key, default)
        if type(value) is not int or not 1 <= value <= most:
            raise self.refused(key, f"a whole number from 1 to {most:,} is expected")
        return value

    def real(self, key: str, default: float, *, below: float) -> float:
        value = self.config.get(key, default)
        if type(value) not in {int, float} or not 0 <= value < below:
            raise self.refused(key, "it is out of range")
        return float(value)
