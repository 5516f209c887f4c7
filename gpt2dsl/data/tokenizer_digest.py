"""Digest of everything that decides encoding and decoding; comparison with plain GPT-2."""

from __future__ import annotations

import hashlib
import json
import re
from operator import itemgetter
from typing import Any

import attrs

from gpt2dsl.schema import tokenizer_json

_LEFT_OUT = ("version", "truncation", "padding")


@attrs.frozen(kw_only=True)
class Roles:
    """Ids of special tokens, and flags that a tokenizer.json can't express.

    Attributes:
        bos: id that begins a text.
        eos: id that ends a text.
        unk: id of unknown tokens.
        pad: id that pads rows.
        others: key → id of other named special tokens.
        cleans: whether decoding removes spaces before punctuation.
        splits: whether special tokens within a text are split like other text.
        cuts_left: whether texts that are too long are truncated on the left.
    """

    bos: int | None = None
    eos: int | None = None
    unk: int | None = None
    pad: int | None = None
    others: dict[str, int | None] = attrs.field(factory=dict)
    cleans: bool = False
    splits: bool = False
    cuts_left: bool = False


def is_splittable(description: dict[str, Any]) -> bool:
    """Return whether text is split exactly as by GPT-2, without added special tokens."""
    split = description["pre_tokenizer"] or {}
    return (
        description["normalizer"] is None
        and split.get("type") == "ByteLevel"
        and split["use_regex"] is not False
        and not split["add_prefix_space"]
        and set(tokenizer_json.steps(description["post_processor"])) <= {"ByteLevel"}
        and all(
            re.fullmatch(r"[!-~]+", token["content"]) and not _has_flags(token)
            for token in description["added_tokens"]
        )
    )


def digest(description: dict[str, Any], roles: Roles) -> str:
    """Return SHA-256 of everything that decides ids; equal for equivalent files."""
    added = sorted((token["id"], token["content"]) for token in description["added_tokens"])
    if not _is_plain(description, roles):
        model = {key: value for key, value in description["model"].items() if key != "dropout"}
        remaining = {key: value for key, value in description.items() if key not in _LEFT_OUT}
        return _sha256([{**remaining, "model": model}, attrs.asdict(roles)])
    # Whether the special token is in the vocabulary, too, makes no difference to the ids.
    ids = description["model"]["vocab"] | {content: number for number, content in added}
    vocab = sorted(ids.items(), key=itemgetter(1))
    merges = description["model"]["merges"]
    decides = [description["added_tokens"][0]["content"], vocab, merges, added, "gpt2"]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def _is_plain(description: dict[str, Any], roles: Roles) -> bool:
    """Return whether only the vocabulary differs from OpenAI's tokenizer."""
    added, model = description["added_tokens"], description["model"]
    ends = [token["id"] for token in added]
    return (
        is_splittable(description)
        and not description["model"]["ignore_merges"]
        and not (model["continuing_subword_prefix"] or model["end_of_word_suffix"])
        and len(added) == 1
        and added[0]["special"]
        and [roles.eos] == ends
        and {roles.bos, roles.pad, roles.unk, *roles.others.values()} <= {None, *ends}
        and not (roles.cleans or roles.splits or roles.cuts_left)
    )


def _has_flags(token: dict[str, Any]) -> bool:
    return bool(token["lstrip"] or token["rstrip"] or token["single_word"])


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
