"""The network of a file that does not describe it: from its tensors, its YAML and hints."""

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
from gpt2dsl.weights.files.lazy_tensor import LazyTensor
from gpt2dsl.weights.formats.config import from_config
from gpt2dsl.weights.formats.settings import ACTIVATIONS, Settings

_OF_SIZE = ("layers", "hidden", "positions")
"""What fixes a named size; a vocabulary may be the data's."""


@attrs.frozen(kw_only=True)
class Overrides:
    """What a user knows of weights that their files may not say.

    Attributes:
        size: the network of a named size; its heads and activation are theirs.
        heads: attention heads.
        activation: one of ``layout.geometry.ACTIVATIONS``.
        base: the weights that an adapter belongs to, in the place of those that it names.
        allow_missing: regex on the names of parameters that may be missing, and get new values.
        fetch: whether what is on the Hub and not in its cache here is downloaded.
        strategy: the file or folder that says how they are split over ranks.
        split: the same as dp, mp and pp.
        zero: whether the optimizer's state is shared out over dp.
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

    def may_lack(self, name: str) -> bool:
        """Return whether a parameter may be missing."""
        try:
            return bool(self.allow_missing) and bool(re.fullmatch(self.allow_missing, name))
        except re.error:  # The plan has a fault for it.
            return False

    def contradictions(self, geometry: GPT2Config) -> list[str]:
        """Return where a network is another one than the user says, in words."""
        said: dict[str, Any] = {"heads": self.heads, "activation": self.activation}
        if self.size:
            said |= {key: getattr(self.size, key) for key in _OF_SIZE}
            said["heads"] = self.heads or self.size.heads
        return [
            f"{key} is {getattr(geometry, key)}, not {value}"
            for key, value in said.items()
            if value and value != getattr(geometry, key)
        ]


def infer_config(
    named: Mapping[str, LazyTensor], said: Settings | None, hints: Overrides, path: Path
) -> tuple[GPT2Config, dict[str, Any]]:
    """The network of a MindFormers checkpoint, and the config.json that its YAML carries, or {}.

    Args:
        named: the tensors, under Hugging Face's names.
        said: the YAML beside them.
        hints: what the user knows.
        path: the file, for messages.

    Raises:
        InputError: heads or activation are not known (G2-307), or contradict the tensors (G2-306).
    """
    seen = _seen(named, path)
    theirs = _of_settings(said) if said else None
    if said and theirs and (config := said.hugging_face):
        found = from_config(config, said.path)
        _agreeing(found, seen, said.path, "the tensors")
        # MindFormers has no word for erf, and is told the tanh form.
        told = "gelu_new" if found.activation == "gelu" else found.activation
        drops = {key: theirs[key] for key in _DROPOUTS if key in theirs}
        own = attrs.evolve(found, activation=told, **drops)
        _agreeing(own, theirs, said.path, "hugging_face and model_config")
        return found, config
    if hints.size:
        _agreeing(hints.size, {k: v for k, v in seen.items() if k in _OF_SIZE}, path, "the size")
    heads = hints.heads or (theirs or {}).get("heads") or (hints.size.heads if hints.size else None)
    if heads is None:
        message = "how many heads it has is not in the file: a YAML beside it, --size or --heads"
        raise InputError("G2-307", path, message)
    if seen["hidden"] % heads:
        raise InputError("G2-306", path, f"{heads} heads do not divide the width {seen['hidden']}")
    activation = (
        hints.activation
        or (theirs or {}).get("activation")
        or (hints.size.activation if hints.size else "gelu_new")
    )
    drops = {key: (theirs or {})[key] for key in _DROPOUTS if key in (theirs or {})}
    width = seen.pop("inner_width")
    inner = 0 if width == 4 * seen["hidden"] else width
    found = GPT2Config(heads=heads, activation=activation, inner=inner, **drops, **seen)
    if said and theirs:
        _agreeing(found, theirs, said.path, "the tensors")
    return found, {}


_DROPOUTS = ("dropout", "attention_dropout")


def _seen(named: Mapping[str, LazyTensor], path: Path) -> dict[str, Any]:
    """What the shapes of the tensors say."""
    table, rows = WTE, WPE
    inner = "transformer.h.0.mlp.c_fc.weight"
    for name in (table, rows, inner):
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
        "inner_width": named[inner].shape[1],
        "labels": score.shape[0] if score else 0,
        "problem": REGRESSION if score and score.shape[0] == 1 else "",
    }


def _of_settings(said: Settings) -> dict[str, Any]:
    """What the YAML says, as far as it does."""
    keys = {
        "layers": "num_layers", "heads": "num_heads", "hidden": "hidden_size",
        "positions": "seq_length", "vocab": "vocab_size",
    }  # fmt: skip
    found: dict[str, Any] = {
        ours: said.model[theirs] for ours, theirs in keys.items() if theirs in said.model
    }
    for key, value in found.items():
        if type(value) is not int or value < 1:
            message = f"{keys[key]} is {value!r}, a positive whole number is expected"
            raise InputError("G2-306", said.path, message)
    activation = said.model.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        message = f"hidden_act is {activation!r}, one of {', '.join(ACTIVATIONS)} is expected"
        raise InputError("G2-306", said.path, message)
    found["activation"] = ACTIVATIONS[activation]
    for key, theirs in zip(
        _DROPOUTS, ("hidden_dropout_rate", "attention_dropout_rate"), strict=True
    ):
        rate = said.model.get(theirs, 0.1)
        if type(rate) in {int, float} and 0 <= rate < 1:
            found[key] = float(rate)
    if found.get("attention_dropout") == found.get("dropout", 0.1):
        found["attention_dropout"] = None
    return found


def _agreeing(found: GPT2Config, said: Mapping[str, Any], path: Path, whose: str) -> GPT2Config:
    """Refuse a network of which two sources say different things."""
    for key, value in said.items():
        own = getattr(found, key)
        if own != value:
            message = f"{key} is {value} in one place and {own} in another ({whose})"
            raise InputError("G2-306", path, message)
    return found
