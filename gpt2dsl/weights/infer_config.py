"""Inference of a network from tensors, YAML and overrides, for files that do not describe it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import REGRESSION, GPT2Config
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.params import SCORE, WPE, WTE
from gpt2dsl.parts.model import SIZES, Model
from gpt2dsl.schema.fate import shown
from gpt2dsl.weights.files.lazy_tensor import LazyTensor
from gpt2dsl.weights.formats.config import from_config
from gpt2dsl.weights.formats.settings import ACTIVATIONS, MindFormersYaml

_OF_SIZE = ("layers", "hidden", "positions")
"""MindFormersYaml that identify a named size; the vocabulary may come from the data."""


@attrs.frozen(kw_only=True)
class Overrides:
    """The user's settings for weights whose files may lack them.

    Attributes:
        size: the network of a named size, which gives heads and activation.
        heads: number of attention heads.
        activation: one of ``layout.config.ACTIVATIONS``.
        base: an adapter's base, instead of the one that it names.
        allow_missing: regex for the names of parameters that may be missing, and are initialised.
        fetch: whether to download weights that are on the Hub and not cached.
        strategy: the file or folder of strategy files.
        split: the layout as dp, mp and pp.
        zero: whether optimizer state is sharded over dp.
    """

    size: GPT2Config | None = None
    heads: int | None = None
    activation: str = ""
    base: str = ""
    allow_missing: str = ""
    fetch: bool = False
    strategy: str = ""
    split: ParallelDims | None = None
    zero: bool = False

    @classmethod
    def of(cls, model: Model, *, fetch: bool) -> Overrides:
        """Return the overrides of a recipe's ``[model]``; ``fetch`` as the attribute."""
        return cls(
            size=SIZES[model.canonical_size] if model.size else None,
            heads=model.heads,
            activation=model.activation,
            allow_missing=model.allow_missing,
            fetch=fetch,
        )

    def may_lack(self, name: str) -> bool:
        """Return whether a parameter may be missing."""
        try:
            return bool(self.allow_missing) and bool(re.fullmatch(self.allow_missing, name))
        except re.error:  # The plan reports an invalid regex.
            return False

    def require(self, geometry: GPT2Config, name: object) -> None:
        """Require the network of weights to have these settings.

        Raises:
            InputError: they contradict each other (G2-306).
        """
        if wrong := self.contradictions(geometry):
            raise InputError("G2-306", name, "; ".join(wrong))

    def contradictions(self, geometry: GPT2Config) -> list[str]:
        """Return a message for each contradiction between a network and these settings."""
        expected: dict[str, Any] = {"heads": self.heads, "activation": self.activation}
        if self.size:
            expected |= {key: getattr(self.size, key) for key in _OF_SIZE}
            expected["heads"] = self.heads or self.size.heads
        return [
            f"{key} is {getattr(geometry, key)}, not {value}"
            for key, value in expected.items()
            if value and value != getattr(geometry, key)
        ]


def infer_config(
    named: Mapping[str, LazyTensor], yaml: MindFormersYaml | None, overrides: Overrides, path: Path
) -> tuple[GPT2Config, dict[str, Any]]:
    """Return the network of a MindFormers checkpoint, and the config.json in its YAML, or {}.

    Raises:
        InputError: heads or activation are unknown (G2-307), or contradict the tensors (G2-314).
    """
    derived = _seen(named, path)
    stated = _of_settings(yaml) if yaml else None
    if yaml and stated and (config := yaml.hugging_face):
        geometry = from_config(config, yaml.path)
        _agreeing(geometry, derived, yaml.path, "the tensors")
        # MindFormers has no gelu with erf, so its YAML names the tanh form.
        mf_activation = "gelu_new" if geometry.activation == "gelu" else geometry.activation
        drops = _dropouts(geometry.dropouts.residual, geometry.dropouts.attention)
        yaml_geometry = attrs.evolve(geometry, activation=mf_activation, **drops)
        _agreeing(yaml_geometry, stated, yaml.path, "hugging_face and model_config")
        return geometry, config
    if overrides.size:
        _agreeing(
            overrides.size, {k: v for k, v in derived.items() if k in _OF_SIZE}, path, "the size"
        )
    heads = (
        overrides.heads
        or (stated or {}).get("heads")
        or (overrides.size.heads if overrides.size else None)
    )
    if heads is None:
        message = (
            "how many heads it has is not in the file: a YAML beside it, model.size or model.heads"
        )
        raise InputError("G2-307", path, message)
    if derived["hidden"] % heads:
        raise InputError(
            "G2-314", path, f"{heads} heads do not divide the width {derived['hidden']}"
        )
    activation = (
        overrides.activation
        or (stated or {}).get("activation")
        or (overrides.size.activation if overrides.size else "gelu_new")
    )
    drops = {key: stated[key] for key in _DROPOUTS} if stated else {}
    if derived["labels"] == 1:  # as transformers infers it; MindFormers' files do not say it
        derived["problem"] = REGRESSION
    width = derived.pop("inner_width")
    inner = 0 if width == 4 * derived["hidden"] else width
    geometry = GPT2Config(heads=heads, activation=activation, inner=inner, **drops, **derived)
    if yaml and stated:
        _agreeing(geometry, stated, yaml.path, "the tensors")
    return geometry, {}


_DROPOUTS = {"dropout": "hidden_dropout_rate", "attention_dropout": "attention_dropout_rate"}
"""Dropout probabilities → their keys in the YAML."""


def _seen(named: Mapping[str, LazyTensor], path: Path) -> dict[str, Any]:
    """Return the network's settings that follow from the shapes of its tensors."""
    table, rows = WTE, WPE
    c_fc = "transformer.h.0.mlp.c_fc.weight"
    for name in (table, rows, c_fc):
        if name not in named or len(named[name].shape) != 2:
            raise InputError("G2-306", path, f"1 missing: {name}, which fixes the network")
    blocks = [int(m[1]) for name in named if (m := re.match(r"transformer\.h\.(\d+)\.", name))]
    vocab, hidden = named[table].shape
    score = named.get(SCORE)
    return {
        "layers": max(blocks) + 1,
        "hidden": hidden,
        "positions": named[rows].shape[0],
        "vocab": vocab,
        "inner_width": named[c_fc].shape[1],
        "labels": score.shape[0] if score else 0,
    }


def _of_settings(yaml: MindFormersYaml) -> dict[str, Any]:
    """Return the network's settings in the YAML."""
    keys = {
        "layers": "num_layers", "heads": "num_heads", "hidden": "hidden_size",
        "positions": "seq_length", "vocab": "vocab_size",
    }  # fmt: skip
    values: dict[str, Any] = {
        key: yaml.model[yaml_key] for key, yaml_key in keys.items() if yaml_key in yaml.model
    }
    for key, value in values.items():
        if type(value) is not int or value < 1:
            message = f"{keys[key]} is {shown(value)}, a positive whole number is expected"
            raise InputError("G2-313", yaml.path, message)
    activation = yaml.model.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        message = f"hidden_act is {shown(activation)}, one of {', '.join(ACTIVATIONS)} is expected"
        raise InputError("G2-313", yaml.path, message)
    values["activation"] = ACTIVATIONS[activation]
    rates = [_rate(yaml, yaml_key) for yaml_key in _DROPOUTS.values()]
    return values | _dropouts(*rates)


def _rate(yaml: MindFormersYaml, yaml_key: str) -> float:
    """Return a dropout probability of the YAML."""
    rate = yaml.model.get(yaml_key, 0.1)
    if type(rate) in {int, float} and 0 <= rate < 1:
        return float(rate)
    message = f"{yaml_key} is {shown(rate)}, a number from 0 to below 1 is expected"
    raise InputError("G2-313", yaml.path, message)


def _dropouts(residual: float, attention: float) -> dict[str, Any]:
    """Return the dropout settings of a network; MindFormers has none for the embedding."""
    return {"dropout": residual, "attention_dropout": None if attention == residual else attention}


def _agreeing(network: GPT2Config, stated: Mapping[str, Any], path: Path, whose: str) -> GPT2Config:
    """Return a network, or raise an error if it contradicts another source."""
    for key, value in stated.items():
        actual = getattr(network, key)
        if actual != value:
            message = f"{key} is {value} in one place and {actual} in another ({whose})"
            raise InputError("G2-314", path, message)
    return network
