"""Folders as transformers writes them, with any valid keys: what fuzzing reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from transformers import AddedToken, GPT2Tokenizer, GPT2TokenizerFast

from gpt2dsl.data import vocabulary

END = "<|endoftext|>"
MERGES = (
    ("t", "h"), ("th", "e"), ("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t"), ("Ġ", "th"), ("Ġth", "e"),
)  # fmt: skip
WORDS = ("<|user|>", "<|bot|>", "<pad>", "<bos>", "café", "đem", "the cat", "ab", "abc", " x ")
"""Contents of added tokens: ends of one another, with spaces, letters of the byte alphabet."""

TEXTS = st.lists(
    st.sampled_from(
        [*WORDS, END, "the", "cat", " ", "  ", "\n", "é", "語", ".", " .", " n't", "1"]
    ),
    max_size=8,
).map("".join)
"""Texts that hold what the tokenizers of ``tokenizers`` treat in ways of its own."""


def small_vocabulary(folder: Path, *, end: bool = True) -> Path:
    """Write 256 bytes, seven merges and the end of text, as vocab.json and merges.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [
        *sorted(vocabulary.library().pre_tokenizers.ByteLevel.alphabet()),
        *map("".join, MERGES),
    ]
    ids = {token: i for i, token in enumerate([*tokens, END] if end else tokens)}
    (folder / "vocab.json").write_text(json.dumps(ids), "utf-8")
    lines = "".join(f"{left} {right}\n" for left, right in MERGES)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}", "utf-8")
    return folder


def _tokens(contents: tuple[str, ...] = WORDS) -> st.SearchStrategy[str | AddedToken]:
    flags = {key: st.booleans() for key in ("lstrip", "rstrip", "single_word", "normalized")}
    content = st.sampled_from(contents)
    return content | st.builds(AddedToken, content, **flags)


_ROLES = ("bos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_KEYS: Mapping[str, st.SearchStrategy[Any]] = {
    "add_prefix_space": st.booleans(),
    "add_bos_token": st.booleans(),
    "errors": st.sampled_from(["replace", "ignore", "strict"]),
    "clean_up_tokenization_spaces": st.booleans(),
    "split_special_tokens": st.booleans(),
    "padding_side": st.sampled_from(["left", "right"]),
    "truncation_side": st.sampled_from(["left", "right"]),
    "model_max_length": st.integers(64, 2048),
    "chat_template": st.just("{% for m in messages %}{{ m.content }}{% endfor %}"),
    "eos_token": _tokens((END, "</s>", "<|bot|>")),
    **dict.fromkeys(_ROLES, _tokens()),
    "additional_special_tokens": st.lists(_tokens(), max_size=2, unique_by=str),
}
TOKENIZER_KEYS = st.dictionaries(st.sampled_from(sorted(_KEYS)), st.none(), max_size=4).flatmap(
    lambda chosen: st.fixed_dictionaries({key: _KEYS[key] for key in chosen})
)
"""Arguments of GPT2Tokenizer and GPT2TokenizerFast."""


@st.composite
def tokenizer_makers(draw: st.DrawFn) -> Any:
    """Draw a function that writes a tokenizer into a folder, as transformers saves it."""
    cls = draw(st.sampled_from([GPT2Tokenizer, GPT2TokenizerFast]))
    keys = draw(TOKENIZER_KEYS)
    added = draw(st.lists(_tokens(), max_size=3, unique_by=str))
    special = draw(st.booleans())
    legacy = draw(st.sampled_from([None, True, False])) if cls is GPT2TokenizerFast else None
    end = draw(st.booleans())

    def make(folder: Path) -> Path:
        parts = small_vocabulary(folder.with_name(f"{folder.name}-vocabulary"), end=end)
        made = cls(str(parts / "vocab.json"), str(parts / "merges.txt"), **keys)
        made.add_tokens(added, special_tokens=special)
        made.save_pretrained(folder, legacy_format=legacy)
        (folder / "config.json").write_text('{"model_type": "gpt2"}')
        return folder

    make.__qualname__ = f"make({cls.__name__}, {keys}, {added}, {special=}, {legacy=}, {end=})"
    return make
