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
class MindFormersYaml:
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


def of_checkpoint(file: Path, folder: Path) -> MindFormersYaml | None:
    """Return the YAML beside a checkpoint's file or in the folder of its ranks; None if absent.

    Raises:
        InputError: the YAML is damaged (G2-304).
    """
    return _beside(file) or _beside(folder / file.name)


def _beside(checkpoint: Path) -> MindFormersYaml | None:
    """Return the YAML beside a checkpoint: of the same name, or the only one."""
    same = [path for end in (".yaml", ".yml") if (path := checkpoint.with_suffix(end)).exists()]
    candidates = same[:1] or sorted(checkpoint.parent.glob("*.yaml"))
    if len(candidates) != 1:
        return None
    import yaml  # noqa: PLC0415  # slow, and seldom needed

    path = candidates[0]
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise InputError("G2-304", path, f"it is not YAML: {first}") from error
    model = content.get("model") if isinstance(content, dict) else None
    settings = model.get("model_config") if isinstance(model, dict) else None
    if not isinstance(settings, dict) and not same:
        return None  # An unrelated file.
    if not isinstance(settings, dict):
        raise InputError("G2-304", path, "it has no model.model_config, as MindFormers' files have")
    config, generation = (
        _table(path, key, content.get(key)) for key in ("hugging_face", _GENERATION)
    )
    return MindFormersYaml(path, settings, config or {}, generation)


def _table(path: Path, key: str, value: object) -> dict[str, Any] | None:
    """Return a table that our own YAML holds, None if it is absent.

    Raises:
        InputError: it is no table (G2-304).
    """
    if value is None or isinstance(value, dict):
        return value
    message = f"{key} is {shown(value)}, the table is expected that gpt2dsl writes; take it out"
    raise InputError("G2-304", path, message)


def to_settings(
    geometry: GPT2Config, config: Mapping[str, Any], generation: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return MindFormers' YAML of a network.

    It embeds config.json and generation_config.json, to restore settings without a counterpart in
    MindFormers when the file is read here.
    """
    mf_names = {activation: name for name, activation in ACTIVATIONS.items()}
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
