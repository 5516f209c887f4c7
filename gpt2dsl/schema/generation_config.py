"""Keys of transformers 4.57.6's generation_config.json, and their fates.

Without a generation_config.json the same keys are read from config.json, as in transformers'
``GenerationConfig.from_model_config``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gpt2dsl.schema.fate import Table, expecting, no_effect, only, used

Refusal = Callable[[Any], str]

DEFAULT_LENGTH = 20
"""transformers' default of ``max_length``, counted without the prompt."""

DEFAULT_TOP_K = 50
"""transformers' default of ``top_k`` when ``do_sample`` is set."""

FROM_CONFIG = "_from_model_config"
"""Key with which generation settings in config.json override the file."""


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) < 2**63  # the largest integer in a recipe
    return type(value) is float and math.isfinite(value)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(i) is int and i >= 0 for i in value)


def _is_bias(pair: Any) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and _are_ids(pair[0])
        and bool(pair[0])
        and _is_number(pair[1])
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _whole(low: int) -> Refusal:
    return expecting(
        f"expected an integer from {low}", lambda value: type(value) is int and value >= low
    )


_above_zero = expecting("expected a number above 0", lambda value: _is_number(value) and value > 0)
_number = expecting("expected a number", _is_number)
_integer = expecting("expected an integer", lambda value: type(value) is int)

# transformers tests the truth value, so 0 and 1 count as false and true.
_flag = expecting(
    "expected true or false", lambda value: type(value) in (bool, int) and value in (0, 1)
)
_early = expecting(
    'expected true, false or "never"', lambda value: isinstance(value, bool) or value == "never"
)
_texts = expecting(
    "expected a text or a list of texts, none empty",
    lambda value: all(isinstance(text, str) and text for text in _listed(value)),
)
_ids = expecting("expected a list of ids", _are_ids)
_id_or_ids = expecting(
    "expected an id or a list of ids", lambda value: _are_ids([value]) or _are_ids(value)
)

# In transformers, -1 means no end-of-text id.
_any_id = expecting(
    "expected an id or a list of ids", lambda value: all(type(i) is int for i in _listed(value))
)
_sequences = expecting(
    "expected a list of lists of ids, none empty",
    lambda value: isinstance(value, list) and all(_are_ids(ids) and ids for ids in value),
)
_biases = expecting(
    "expected a list of pairs [[ids], number]",
    lambda value: isinstance(value, list) and all(map(_is_bias, value)),
)


_decay = expecting(
    "expected a pair of an integer of at least 0 and a number above 0",
    lambda value: (
        isinstance(value, list)
        and len(value) == 2
        and _are_ids(value[:1])
        and _is_number(value[1])
        and value[1] > 0
    ),
)


def _not_built(what: str, *accepted: Any) -> Refusal:
    return only(None, *accepted, cure=f"{what} is not built here; take it out")


def _cache(value: Any) -> str:
    return "a cache of fewer bits gives other texts; take it out" if value == "quantized" else ""


_SAMPLING = "for sampling"
_BEAMS = "for beam search"
_OUTPUT = "what transformers returns in addition to the ids"
_SPEED = "how transformers computes; the texts are the same"
_DRAFTS = "for assisted generation, which does not change the texts"
_ORIGIN = "the origin of the file"

TABLE: Table = {
    "max_length": used("generation.max_length", _whole(1)),
    "max_new_tokens": used("generation.max_new_tokens, overrides max_length", _whole(1)),
    "min_length": used("generation.min_length", _integer),
    "min_new_tokens": used("generation.min_new_tokens, overrides min_length", _integer),
    "early_stopping": used(f"generation.early_stopping, {_BEAMS}", _early),
    "max_time": no_effect("no time limit", _not_built("a limit of time")),
    "stop_strings": used("generation.stop_strings", _texts),
    "do_sample": used("generation.do_sample", _flag),
    "num_beams": used("generation.beams", _whole(1)),
    "use_cache": no_effect(_SPEED),
    "cache_implementation": no_effect(_SPEED, _cache),
    "cache_config": no_effect(_SPEED),
    "return_legacy_cache": no_effect(_OUTPUT),
    "prefill_chunk_size": no_effect(_SPEED),
    "temperature": used(f"generation.temperature, {_SAMPLING}", _number),
    "top_k": used(f"generation.top_k, {_SAMPLING}", _integer),
    "top_p": used(f"generation.top_p, {_SAMPLING}", _number),
    "min_p": used(f"generation.min_p, {_SAMPLING}", _number),
    "typical_p": used(f"generation.typical_p, {_SAMPLING}", _number),
    "epsilon_cutoff": used(f"generation.epsilon_cutoff, {_SAMPLING}", _number),
    "eta_cutoff": used(f"generation.eta_cutoff, {_SAMPLING}", _number),
    "repetition_penalty": used("generation.repetition_penalty", _above_zero),
    "encoder_repetition_penalty": used("generation.encoder_repetition_penalty", _above_zero),
    "length_penalty": used(f"generation.length_penalty, {_BEAMS}", _number),
    "no_repeat_ngram_size": used("generation.no_repeat_ngram_size", _integer),
    "encoder_no_repeat_ngram_size": used("generation.encoder_no_repeat_ngram_size", _integer),
    "bad_words_ids": used("generation.bad_words_ids", _sequences),
    "renormalize_logits": used("generation.renormalize_logits", _flag),
    "forced_bos_token_id": used("generation.forced_bos_token_id", _whole(0)),
    "forced_eos_token_id": used("generation.forced_eos_token_id", _id_or_ids),
    "remove_invalid_values": used("generation.remove_invalid_values", _flag),
    "exponential_decay_length_penalty": used("generation.exponential_decay_length_penalty", _decay),
    "suppress_tokens": used("generation.suppress_tokens", _ids),
    "begin_suppress_tokens": used("generation.begin_suppress_tokens", _ids),
    "sequence_bias": used("generation.sequence_bias", _biases),
    "token_healing": no_effect("no healing", _not_built("token healing", False)),
    "guidance_scale": no_effect("no guidance", _not_built("classifier-free guidance", 1)),
    "watermarking_config": no_effect("no watermark", _not_built("a watermark")),
    "num_return_sequences": used("generation.num_return_sequences", _whole(1)),
    "output_attentions": no_effect(_OUTPUT),
    "output_hidden_states": no_effect(_OUTPUT),
    "output_scores": no_effect(_OUTPUT),
    "output_logits": no_effect(_OUTPUT),
    "return_dict_in_generate": no_effect(_OUTPUT),
    "pad_token_id": no_effect("padding never affects a text"),
    "bos_token_id": used("the token that an empty prompt begins with", _any_id),
    "eos_token_id": used("generation.eos", _any_id),
    "decoder_start_token_id": no_effect("only for models with an encoder"),
    "is_assistant": no_effect(_DRAFTS),
    "num_assistant_tokens": no_effect(_DRAFTS),
    "num_assistant_tokens_schedule": no_effect(_DRAFTS),
    "assistant_confidence_threshold": no_effect(_DRAFTS),
    "prompt_lookup_num_tokens": no_effect(_DRAFTS),
    "max_matching_ngram_size": no_effect(_DRAFTS),
    "assistant_early_exit": no_effect("no drafts", _not_built("a draft of the first layers")),
    "assistant_lookbehind": no_effect(_DRAFTS),
    "target_lookbehind": no_effect(_DRAFTS),
    "compile_config": no_effect(_SPEED),
    "disable_compile": no_effect(_SPEED),
    "low_memory": no_effect(_SPEED),
    "penalty_alpha": no_effect("no contrastive search", _not_built("contrastive search", 0)),
    "dola_layers": no_effect("no contrast of layers", _not_built("DoLa")),
    "diversity_penalty": no_effect("only for several groups of beams"),
    "num_beam_groups": no_effect("one group of beams", _not_built("a search in groups", 1)),
    "constraints": no_effect("no constraints", _not_built("a search with constraints")),
    "force_words_ids": no_effect("no constraints", _not_built("a search with forced words")),
    FROM_CONFIG: used("whether generation keys in config.json take precedence"),
    "_commit_hash": no_effect(_ORIGIN),
    "_original_object_hash": no_effect(_ORIGIN),
    "transformers_version": no_effect(_ORIGIN),
}
"""Key of transformers' GenerationConfig → row."""

IN_CONFIG = tuple(
    key
    for key in TABLE
    if not key.startswith("_")
    and key not in ("bos_token_id", "eos_token_id", "pad_token_id", "transformers_version")
)
"""Keys also present in config.json of old models, where ``of_config`` reads them."""

GLOBAL = {
    "max_length": 20, "min_length": 0, "do_sample": False, "early_stopping": False, "num_beams": 1,
    "temperature": 1.0, "top_k": 50, "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0,
    "length_penalty": 1.0, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None, "num_return_sequences": 1, "output_scores": False,
    "return_dict_in_generate": False, "forced_bos_token_id": None, "forced_eos_token_id": None,
    "remove_invalid_values": False, "exponential_decay_length_penalty": None,
    "suppress_tokens": None, "begin_suppress_tokens": None, "num_beam_groups": 1,
    "diversity_penalty": 0.0,
}  # fmt: skip
"""Values that count as unset in config.json: transformers' ``_get_global_generation_defaults``."""


def of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key in TABLE and value is not None}


def goes_before(content: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Return whether config.json overrides a file that transformers derived from it."""
    changed = any(
        config.get(key) is not None and config[key] != default for key, default in GLOBAL.items()
    )
    return bool(content.get(FROM_CONFIG)) and changed


def stated(content: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Return key of ``[generation]`` → value in a file, and the file's own key.

    Values without effect in transformers are left out, and so are refused ones.
    """
    accepted = {
        key: value
        for key, value in content.items()
        if value is not None and key in TABLE and not TABLE[key].refusal(value)
    }
    values = {
        name: (convert(accepted[key]), key)
        for key, (name, convert) in _GENERATION_KEYS.items()
        if key in accepted
    }
    if accepted.get("max_length") == DEFAULT_LENGTH:
        values["max_new_tokens"] = values.pop("max_length")
    if "max_new_tokens" in accepted:
        values["max_new_tokens"] = (accepted["max_new_tokens"], "max_new_tokens")
        values.pop("max_length", None)
    if "min_new_tokens" in accepted:
        values.pop("min_length", None)
    if accepted.get("do_sample") and "top_k" not in content:
        values["top_k"] = (DEFAULT_TOP_K, "do_sample")
    if "top_k" in content and content["top_k"] is None:
        values["top_k"] = (0, "top_k")
    return values


def written(content: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a file, overridden by settings of ``[generation]``."""
    names = {name: key for key, (name, _) in _GENERATION_KEYS.items()}
    added = {names[key]: _json(value) for key, value in settings.items() if key in names}
    original = dict(content)
    if "max_new_tokens" in settings:
        original.pop("max_length", None)
    if "max_length" in settings:
        original.pop("max_new_tokens", None)
    if added:
        original.pop(FROM_CONFIG, None)
    if "eos_token_id" in added and len(added["eos_token_id"]) == 1:
        added["eos_token_id"] = added["eos_token_id"][0]
    return {**original, **added}


def file_keys(keys: Iterable[str]) -> list[str]:
    """Return the file's keys for keys of ``[generation]``."""
    names = {name: key for key, (name, _) in _GENERATION_KEYS.items()}
    return [names[key] for key in keys if key in names]


def _json(value: Any) -> Any:
    return [_json(item) for item in value] if isinstance(value, list | tuple) else value


def _same(value: Any) -> Any:
    return value


def _at_least_zero(value: int) -> int:
    return max(value, 0)


def _at_most_one(value: float) -> float:
    return min(value, 1.0)


def _below_one(value: float) -> float:
    return value if 0 < value < 1 else 0.0


def _is_true(value: Any) -> bool:
    return value is True


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "min_new_tokens": _at_least_zero, "min_length": _at_least_zero, "do_sample": bool,
    "top_p": _at_most_one, "typical_p": _at_most_one, "epsilon_cutoff": _below_one,
    "eta_cutoff": _below_one, "no_repeat_ngram_size": _at_least_zero,
    "encoder_no_repeat_ngram_size": _at_least_zero, "forced_eos_token_id": _listed,
    "remove_invalid_values": _is_true, "renormalize_logits": _is_true, "stop_strings": _listed,
    "eos_token_id": _listed,
}  # fmt: skip
_RENAMED = {"eos_token_id": "eos", "num_beams": "beams"}
_GENERATION_KEYS = {
    key: (_RENAMED.get(key, key), _CONVERSIONS.get(key, _same))
    for key in (
        "max_new_tokens", "max_length", "min_new_tokens", "min_length", "do_sample", "temperature",
        "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff",
        "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size",
        "bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias",
        "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty",
        "remove_invalid_values", "renormalize_logits", "stop_strings", "eos_token_id", "num_beams",
        "length_penalty", "early_stopping", "num_return_sequences",
    )
}  # fmt: skip
"""Key of the file → key of ``[generation]``, and a conversion of its value."""
