"""Hugging Face's config.json ↔ :class:`GPT2Config`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import MULTI_LABEL, REGRESSION, GPT2Config
from gpt2dsl.schema.activations import ACTIVATIONS, WRITTEN
from gpt2dsl.schema.config import ALIASES, CLASSIFIER, TABLE
from gpt2dsl.schema.fate import fates, shown

OF_NETWORK = (
    "layers", "heads", "hidden", "positions", "vocab", "inner_width", "activation", "epsilon",
    "scale_attention", "scale_by_layer", "tied",
)  # fmt: skip
"""Settings of a network that change its outputs."""

_FEWEST_LABELS = 2
"""Default number of labels, as in transformers."""


def to_config(
    geometry: GPT2Config,
    eos: int | None = None,
    classes: Sequence[str] = (),
    source: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the config.json of a network.

    Without ``eos`` the last id ends texts, as in GPT-2; without ``classes`` they are LABEL_0 and so
    on. Keys of ``source``, the network's original config.json, are kept unless their values have
    changed.
    """
    if not source:
        return _new(geometry, eos, classes)
    original = from_config(source, Path("config.json"))
    has_same_head = (original.labels, original.problem) == (geometry.labels, geometry.problem)
    source_classes = class_names(source)
    new = _new(geometry, eos, classes or (source_classes if has_same_head else ()))
    original_keys = _new(original, eos, source_classes)
    source_keys = {
        key: value
        for key, value in source.items()
        if has_same_head or key not in ("num_labels", "problem_type")
    }
    # A token id that the file leaves out keeps transformers' default, so it is not added.
    absent = {key: new[key] for key in new.keys() - _IDS - {"n_ctx"} if key not in source_keys}
    absent = {
        key: value for key, value in absent.items() if ALIASES.get(key, key) not in source_keys
    }
    changed = {
        key: value
        for key, value in new.items()
        if original_keys.get(key) != value
        and not (key in _IDS and source_keys.get(key) is not None)
    }
    for key, other in ALIASES.items():
        if key in changed and other in source_keys:
            changed[other] = changed.pop(key)
            source_keys.pop(key, None)
    return {**absent, **source_keys, **changed}


_IDS = {"bos_token_id", "eos_token_id", "pad_token_id"}


def _new(geometry: GPT2Config, eos: int | None, classes: Sequence[str]) -> dict[str, Any]:
    end = geometry.vocab - 1 if eos is None else eos
    drops = geometry.dropouts
    config: dict[str, Any] = {
        "architectures": [CLASSIFIER if geometry.labels else "GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": geometry.vocab,
        "n_positions": geometry.positions,
        "n_ctx": geometry.positions,
        "n_embd": geometry.hidden,
        "n_layer": geometry.layers,
        "n_head": geometry.heads,
        "n_inner": geometry.inner or None,
        "activation_function": WRITTEN[geometry.activation],
        "resid_pdrop": drops.residual,
        "embd_pdrop": drops.embedding,
        "attn_pdrop": drops.attention,
        "layer_norm_epsilon": geometry.epsilon,
        "scale_attn_weights": geometry.scale_attention,
        "scale_attn_by_inverse_layer_idx": geometry.scale_by_layer,
        "reorder_and_upcast_attn": geometry.upcast_attention,
        "initializer_range": 0.02,
        "bos_token_id": end,
        "eos_token_id": end,
        "tie_word_embeddings": geometry.tied,
        "torch_dtype": "float32",
        "dtype": "float32",
    }
    if geometry.labels:
        labels = classes or [f"LABEL_{i}" for i in range(geometry.labels)]
        config["id2label"] = {str(i): label for i, label in enumerate(labels)}
        config["label2id"] = {label: i for i, label in enumerate(labels)}
        # Without it, transformers can only classify one text at a time.
        config["pad_token_id"] = end
    if geometry.problem:
        config["problem_type"] = geometry.problem
    return config


def from_config(config: Mapping[str, Any], path: Path) -> GPT2Config:
    """Return the network described by a config.json; absent keys have transformers' defaults.

    Raises:
        InputError: it describes another kind of network, or none (G2-313).
    """
    if "model_type" not in config:
        raise InputError("G2-313", path, "model_type is absent: gpt2 is expected")
    refused = [fate for fate in fates(path, config, TABLE) if fate.fate == "refused"]
    if refused:
        words = (f"{fate.key} is {shown(fate.value)}: {fate.words}" for fate in refused)
        raise InputError("G2-313", path, "; ".join(words))
    residual, embedding, attention = (
        float(config.get(f"{kind}_pdrop", 0.1)) for kind in ("resid", "embd", "attn")
    )
    labels = _labels(config, path)
    geometry = GPT2Config(
        layers=_number(config, "n_layer", 12),
        heads=_number(config, "n_head", 12),
        hidden=_number(config, "n_embd", 768),
        positions=_number(config, "n_positions", 1024),
        vocab=_number(config, "vocab_size", 50257),
        inner=config.get("n_inner") or 0,
        activation=ACTIVATIONS[config.get("activation_function", "gelu_new")],
        dropout=residual,
        embedding_dropout=embedding if embedding != residual else None,
        attention_dropout=attention if attention != residual else None,
        epsilon=float(config.get("layer_norm_epsilon", 1e-5)),
        # as in transformers, by truth value
        scale_attention=bool(config.get("scale_attn_weights", True)),
        scale_by_layer=bool(config.get("scale_attn_by_inverse_layer_idx", False)),
        upcast_attention=bool(config.get("reorder_and_upcast_attn", False)),
        tied=bool(config.get("tie_word_embeddings", True)),
        labels=labels,
        problem=problem(config) if labels else "",
    )
    if geometry.hidden % geometry.heads:
        message = f"n_head is {geometry.heads}: it does not divide n_embd = {geometry.hidden}"
        raise InputError("G2-313", path, message)
    return geometry


def class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a classifier's classes in a config.json; () if it has none."""
    names = config.get("id2label")
    if not isinstance(names, dict):
        return ()
    classes = [names.get(str(i), names.get(i)) for i in range(len(names))]
    return tuple(map(str, classes)) if None not in classes else ()


def problem(config: Mapping[str, Any]) -> str:
    """Return the problem type of a classifier, as transformers infers it.

    Returns:
        ``regression``: each output is a number; ``multi_label_classification``: each output is an
        independent yes or no; "": one class out of several.
    """
    named = config.get("problem_type")
    if named in (REGRESSION, MULTI_LABEL):
        return str(named)
    return REGRESSION if _count(config) == 1 else ""


def _number(config: Mapping[str, Any], key: str, default: int) -> int:
    """Return a number of the network; its alias wins over the key, as in transformers."""
    value: int = config.get(ALIASES.get(key, key), config.get(key, default))
    return value


def _labels(config: Mapping[str, Any], path: Path) -> int:
    """Return the number of outputs of the classification head; 0 if there is none.

    Raises:
        InputError: the keys of labels contradict each other (G2-314).
    """
    if CLASSIFIER not in (config.get("architectures") or ()):
        return 0
    names, numbers = config.get("id2label"), config.get("label2id") or {}
    count = config.get("num_labels")
    if names and count is not None and count != len(names):
        message = f"num_labels is {count}: id2label has {len(names)} classes; remove one of both"
        raise InputError("G2-314", path, message)
    for number, name in (names or {}).items():
        if numbers.get(name, number) not in (number, int(number)):
            message = f"label2id is {numbers[name]} for {name!r}: id2label has {name!r} at {number}"
            raise InputError("G2-314", path, message)
    return _count(config)


def _count(config: Mapping[str, Any]) -> int:
    """Return the number of labels in a config.json."""
    names, count = config.get("id2label"), config.get("num_labels")
    if names is not None:
        return len(names)
    return _FEWEST_LABELS if count is None else count
