"""Keys of tokenizer.json, as in the ``tokenizers`` library, and their fates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpt2dsl.schema.fate import Table, no_effect, only, used

_CURE = "a byte-level BPE is read here; data.tokenizer names another folder"


def steps(part: Any) -> Iterator[str]:
    """Yield the type of a normalizer, pre-tokenizer or decoder, or those within a sequence."""
    if not isinstance(part, Mapping):
        return
    inner = next((part[key] for key in _LISTS if isinstance(part.get(key), list)), None)
    if part.get("type") != "Sequence" or inner is None:
        yield str(part.get("type"))
        return
    for step in inner:
        yield from steps(step)


_LISTS = ("normalizers", "pretokenizers", "decoders", "processors")


def _decoder(value: Any) -> str:
    kinds = set(steps(value))
    return "" if "ByteLevel" in kinds and kinds <= {"ByteLevel", "Fuse"} else _CURE


TABLE: Table = {
    "version": no_effect("the library checks it"),
    "truncation": no_effect("set by each call; its direction is the default of truncation_side"),
    "padding": no_effect("set by each call; its token is the default of pad_token"),
    "added_tokens": used("added tokens with their flags"),
    "normalizer": used("changes a text before it is split"),
    "pre_tokenizer": used("splits a text into words"),
    "post_processor": used("puts special tokens around a text"),
    "decoder": used("turns tokens into text", _decoder),
    "model.type": used("byte-level BPE", only("BPE", cure=_CURE)),
    "model.dropout": no_effect("only for training; tokenisation is deterministic here"),
    "model.unk_token": used("stands for symbols that the vocabulary lacks"),
    "model.continuing_subword_prefix": used("before symbols within a word"),
    "model.end_of_word_suffix": used("after the last symbol of a word"),
    "model.fuse_unk": used("merges consecutive unknown symbols into one"),
    "model.byte_fallback": used("spells unknown symbols in bytes"),
    "model.ignore_merges": used("leaves a word that is a token whole"),
    "model.vocab": used("token → id"),
    "model.merges": used("pairs, in order"),
}


def flattened(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a tokenizer.json with the model's keys as ``model.<key>``."""
    model = content.get("model")
    inner = (
        {f"model.{key}": value for key, value in model.items()} if isinstance(model, dict) else {}
    )
    return {key: value for key, value in content.items() if key != "model"} | inner
