"""Keys of tokenizer_config.json for GPT-2, as in transformers, and their fates."""

from __future__ import annotations

from typing import Any

from gpt2dsl.schema.fate import Table, expecting, no_effect, only, used

ROLES = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
"""Keys of special tokens, in the order in which transformers adds them."""

ADDITIONAL = "additional_special_tokens"
EXTRA = "extra_special_tokens"
ADDED = "added_tokens_decoder"

CLASSES = {
    "GPT2Tokenizer": "<|endoftext|>",
    "GPT2TokenizerFast": "<|endoftext|>",
    "PreTrainedTokenizerFast": None,
    "TokenizersBackend": None,
}
"""Supported tokenizer classes, and their default of bos, eos and unk."""

_OWN_FILES = "the folder's own files are read; take the key out"
_READABLE = "a byte-level BPE of one of these classes is read here: " + ", ".join(CLASSES)


_class = expecting(
    f"{_READABLE}; data.tokenizer names another folder",
    lambda value: isinstance(value, str) and value in CLASSES,
)


def is_token(value: Any) -> bool:
    """Return whether a value is a token: a string, or an object with content and flags."""
    if isinstance(value, dict):
        flags = ("lstrip", "rstrip", "single_word", "normalized", "special")
        content = isinstance(value.get("content"), str)
        return content and all(type(value.get(flag, False)) is bool for flag in flags)
    return isinstance(value, str)


_token = expecting("a token is expected", is_token)
_tokens = expecting(
    "a list of tokens is expected",
    lambda value: isinstance(value, list) and all(map(is_token, value)),
)
_flag = expecting("true or false is expected", lambda value: type(value) is bool)
_side = only("left", "right", cure="left or right is expected")


def _extra(value: Any) -> str:
    tokens = list(value.values()) if isinstance(value, dict) else value
    return _tokens(tokens) and "tokens by name are expected"


def _by_id(value: Any) -> str:
    is_valid = isinstance(value, dict) and all(
        key.isdecimal() and isinstance(token, dict) and is_token(token)
        for key, token in value.items()
    )
    return "" if is_valid else "id → token with its content and flags is expected"


TABLE: Table = {
    "tokenizer_class": used("selects the defaults", _class),
    **dict.fromkeys(ROLES, used("the token for this role; added if missing", _token)),
    ADDITIONAL: used("special tokens; added if missing", _tokens),
    EXTRA: used("special tokens; added if missing", _extra),
    ADDED: used("added tokens with their flags", _by_id),
    "add_prefix_space": used("a space before each text", _flag),
    "add_bos_token": used(
        "bos before each text where there is no tokenizer.json, whose post_processor decides", _flag
    ),
    "split_special_tokens": used("special tokens within a text are split as other text", _flag),
    "clean_up_tokenization_spaces": used("decoding removes spaces before punctuation", _flag),
    "truncation_side": used("the side on which texts to classify are truncated", _side),
    "padding_side": no_effect("padding is masked here, on whichever side", _side),
    "chat_template": no_effect("kept; prompts are taken as they are"),
    **dict.fromkeys(
        ("model_max_length", "max_len", "max_length"),
        no_effect("kept; the model's positions and train.seq_length decide"),
    ),
    **dict.fromkeys(
        ("stride", "padding", "truncation", "truncation_strategy", "pad_to_multiple_of",
         "pad_token_type_id", "model_input_names", "return_token_type_ids", "trim_offsets"),
        no_effect("only for other outputs of a tokenizer call in transformers"),
    ),
    "errors": no_effect("only for the Python tokenizer; AutoTokenizer uses the one in Rust"),
    **dict.fromkeys(
        ("add_eos_token", "do_lower_case", "spaces_between_special_tokens", "legacy", "unk_id"),
        no_effect("GPT-2's tokenizer in transformers has no such setting"),
    ),
    "use_fast": no_effect("AutoTokenizer asks its caller, not the file"),
    **dict.fromkeys(
        ("name_or_path", "special_tokens_map_file", "full_tokenizer_file", "processor_class",
         "device_map", "transformers_version", "_commit_hash", "is_local", "backend", "verbose",
         "local_files_only", "revision", "use_auth_token", "trust_remote_code", "vocab_size",
         "vocab_file", "merges_file", "model_type"),
        no_effect("the origin of the tokenizer"),
    ),
    "auto_map": no_effect("code beside weights is never run"),
    "tokenizer_file": no_effect("the origin of the tokenizer", only(None, cure=_OWN_FILES)),
    "init_inputs": no_effect("empty", only([], cure=_OWN_FILES)),
    "fast_tokenizer_files": no_effect(
        "the one that is read",
        only(["tokenizer.json"], cure="give the one that holds the name tokenizer.json"),
    ),
    "from_slow": no_effect("off", only(False, None, cure="save the folder again without it")),
    "fix_mistral_regex": no_effect(
        "off", only(False, None, cure="write that split into tokenizer.json")
    ),
    "gguf_file": no_effect("none", only(None, cure=_OWN_FILES)),
}  # fmt: skip
