"""MindFormers' YAML beside a checkpoint, with settings that tensors alone lack.

Source: mindformers 0.8.0, models/gpt2/gpt2_config.py and models/base_model.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.schema.fate import shown
from gpt2dsl.weights.defaults import Defaults, Document

ACTIVATIONS = {"gelu": "gelu_new", "fast_gelu": "fast_gelu", "relu": "relu"}
"""MindFormers' name of an activation → ours; its gelu is the tanh form."""

TOLD = {"gelu": "gelu"}
"""Our activation → MindFormers' closest; it has no gelu with erf."""

_SPECIAL = ("eos_token_id", "bos_token_id", "pad_token_id", "unk_token_id")
"""Token keys, all set to GPT-2's end-of-text id."""

_GENERATION = "hugging_face_generation"


@attrs.frozen
class Settings:
    """The content of the YAML.

    Attributes:
        path: the file.
        model: its ``model.model_config``.
        hugging_face: the config.json embedded by :func:`to_settings`; {} in MindFormers' own.
        generation: the generation_config.json embedded likewise; None in MindFormers' own.
    """

    path: Path
    model: dict[str, Any]
    hugging_face: dict[str, Any]
    generation: dict[str, Any] | None = None

    def defaults(self, geometry: GPT2Config) -> Defaults:
        """Return the defaults from the files embedded in the YAML."""
        config = Document(self.path, self.hugging_face) if self.hugging_face else None
        embedded = None if self.generation is None else Document(self.path, self.generation)
        return Defaults.of(config, embedded, geometry)

    @property
    def alpha(self) -> float | None:
        """The adapter's lora_alpha; None if there is no adapter.

        Raises:
            InputError: it is no finite number (G2-313).
        """
        pet = self.model.get("pet_config")
        value = pet.get("lora_alpha") if isinstance(pet, dict) else None
        if value is None or (type(value) in {int, float} and math.isfinite(value)):
            return None if value is None else float(value)
        message = f"pet_config.lora_alpha is {shown(value)}, a number is expected"
        raise InputError("G2-313", self.path, message)


def beside(checkpoint: Path) -> Settings | None:
    """Return the YAML beside a checkpoint: of the same name, or the only one; None if absent.

    Raises:
        InputError: the YAML is damaged (G2-304).
    """
    same = [path for end in (".yaml", ".yml") if (path := checkpoint.with_suffix(end)).exists()]
    beside = same[:1] or sorted(checkpoint.parent.glob("*.yaml"))
    if len(beside) != 1:
        return None
    import yaml  # noqa: PLC0415  # slow, and seldom needed

    path = beside[0]
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise InputError("G2-304", path, f"it is not YAML: {first}") from error
    model = content.get("model") if isinstance(content, dict) else None
    inner = model.get("model_config") if isinstance(model, dict) else None
    if not isinstance(inner, dict) and not same:
        return None  # An unrelated file.
    if not isinstance(inner, dict):
        raise InputError("G2-304", path, "it has no model.model_config, as MindFormers' files have")
    carried, generation = content.get("hugging_face"), content.get(_GENERATION)
    return Settings(
        path,
        inner,
        carried if isinstance(carried, dict) else {},
        generation if isinstance(generation, dict) else None,
    )


def to_settings(
    geometry: GPT2Config, config: Mapping[str, Any], generation: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return MindFormers' YAML of a network.

    Args:
        geometry: the network.
        config: Hugging Face's config.json, embedded to restore settings without a counterpart in
            MindFormers when the file is read here.
        generation: generation_config.json, embedded too; None if there is none.
    """
    mf_names = {ours: name for name, ours in ACTIVATIONS.items()}
    model: dict[str, Any] = {
        "type": "GPT2Config",
        "seq_length": geometry.positions,
        "vocab_size": geometry.vocab,
        "hidden_size": geometry.hidden,
        "num_layers": geometry.layers,
        "num_heads": geometry.heads,
        "expand_ratio": geometry.inner_width // geometry.hidden,
        "hidden_act": (mf_names | TOLD)[geometry.activation],
        "hidden_dropout_rate": geometry.dropouts.residual,
        "attention_dropout_rate": geometry.dropouts.attention,
        "param_init_type": "float32",
        "layernorm_compute_type": "float32",
        "softmax_compute_type": "float32",
        "compute_dtype": "float32",
        **dict.fromkeys(_SPECIAL, config.get("eos_token_id", geometry.vocab - 1)),
        "max_decode_length": geometry.positions,
    }
    if geometry.labels:
        model["num_labels"] = geometry.labels
    kind = "GPT2ForSequenceClassification" if geometry.labels else "GPT2LMHeadModel"
    return {
        "model": {"model_config": model, "arch": {"type": kind}},
        "processor": {"type": "GPT2Processor", "tokenizer": {"type": "GPT2Tokenizer"}},
        "hugging_face": dict(config),
        **({} if generation is None else {_GENERATION: dict(generation)}),
    }


def yaml_of(
    geometry: GPT2Config, config: Mapping[str, Any], generation: Mapping[str, Any] | None = None
) -> bytes:
    """Return :func:`to_settings` as the content of a file."""
    import yaml  # noqa: PLC0415  # slow, and seldom needed

    content = to_settings(geometry, config, generation)
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return text.encode()


def inexpressible(geometry: GPT2Config) -> list[str]:
    """Return the properties of a network that MindFormers can't express and would get wrong."""
    words = {
        f"an inner width of {geometry.inner_width}, which is no multiple of {geometry.hidden}": (
            geometry.inner_width % geometry.hidden != 0
        ),
        "attention without a scale": not geometry.scale_attention,
        "attention that is scaled by its layer's number": geometry.scale_by_layer,
        "a head beside the word table": not geometry.tied and not geometry.labels,
        f"the activation {geometry.activation}": geometry.activation
        not in (*ACTIVATIONS.values(), *TOLD),
        f"a layer norm's epsilon of {geometry.epsilon:g}; its own is 1e-05": geometry.epsilon
        != 1e-5,
    }
    return [word for word, is_so in words.items() if is_so]
