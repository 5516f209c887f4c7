from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.data import source as source_module
from gpt2dsl.data import tokens as module
from gpt2dsl.data.source import Source
from gpt2dsl.data.tokenizer import END, Tokenizer
from gpt2dsl.errors import RunError

# What the pre-tokenizer tells apart, and the characters on which libraries' classes differ.
PARTS = [
    "a", "'s", "'", "1", "!", " ", "\n", "\r", "\t", "\x1c", "\x85", "\xa0", "\u3000", "\u180e",
    "\u200b", "\u2028", "語", "é", "e\u0301", "🤖", "\u0600", END, "<|", "|>", "\0",
]  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PARTS), max_size=40).map("".join))


def _cut(text: str, block: int) -> Iterator[tuple[str, bool]]:
    for start in range(0, len(text), block):
        yield text[start : start + block], start + block >= len(text)


@given(text=TEXTS, block=st.integers(1, 20), length=st.integers(1, 10))
def test_pieces_encoded_apart_give_the_ids_of_the_whole(
    gpt2: Tokenizer, text: str, block: int, length: int
) -> None:
    pieces = list(module.pieces(_cut(text, block), length))
    assert "".join(piece for piece, _ in pieces) == text
    assert [last for _, last in pieces] == [False] * (len(pieces) - 1) + [True] * bool(text)
    ids = [i for piece in gpt2.encode_batch([piece for piece, _ in pieces]) for i in piece]
    assert ids == gpt2.encode(text)


def test_before_space_and_newline_any_character_that_is_no_white_space_may_be_cut(
    gpt2: Tokenizer,
) -> None:
    characters = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    left = [c for c in characters if module._BOUNDARY.match(c + " ")][::7]
    for space in (" ", "\n"):
        whole = gpt2.encode_batch([c + space for c in left])
        apart = gpt2.encode_batch(left)
        end = gpt2.encode(space)
        assert all(w == a + end for w, a in zip(whole, apart, strict=True))


def test_pieces_are_about_as_long_as_asked_for() -> None:
    text = "word " * 1000
    lengths = [len(piece) for piece, _ in module.pieces(_cut(text, 700), 100)]
    assert set(lengths[:-1]) <= set(range(100, 106))


def test_the_stream_is_every_document_and_its_end(tmp_path: Path, gpt2: Tokenizer) -> None:
    for name, text in {"a": "one two", "b": "", "c": f"x {END} y"}.items():
        (tmp_path / name).write_text(text)
    source = Source.open(str(tmp_path))
    assert module.cached(source, gpt2) is None
    end = [gpt2.eos]
    expected = gpt2.encode("one two") + end + gpt2.encode("x ") + end + gpt2.encode(" y") + end
    done: list[int] = []
    found = module.stream(source, gpt2, done.append)
    assert found.tolist() == expected
    assert done == [source.size]
    assert isinstance(found, np.memmap)
    assert module.cached(source, gpt2) == len(expected)


def test_the_cache_is_used_and_made_again_where_it_is_damaged(
    tmp_path: Path, gpt2: Tokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("one two three")
    source = Source.open(str(tmp_path))
    whole = module.stream(source, gpt2).tolist()
    (file,) = (cache / "tokens").iterdir()
    for damaged in (file.read_bytes()[:-1], file.read_bytes() + b"x", b"", b"junk"):
        file.write_bytes(damaged)
        assert module.cached(source, gpt2) is None
        assert module.stream(source, gpt2).tolist() == whole
    monkeypatch.setattr(module, "_write", None)
    assert module.stream(source, gpt2).tolist() == whole


def test_another_vocabulary_has_another_stream(tmp_path: Path, gpt2: Tokenizer) -> None:
    (tmp_path / "a").write_text("one two three " * 10)
    source = Source.open(str(tmp_path))
    small = Tokenizer.train(source.documents(), 300)
    assert module.stream(source, small).tolist() == [*small.encode("one two three " * 10), 0]
    assert module.cached(source, gpt2) is None


def test_a_large_vocabulary_is_kept_as_int32(
    tmp_path: Path, gpt2: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("one")
    source = Source.open(str(tmp_path))
    assert module.stream(source, gpt2).dtype == np.uint16
    monkeypatch.setattr(Tokenizer, "__len__", lambda _: 2**16 + 1)
    monkeypatch.setattr(module, "FORMAT", 99)
    assert module.stream(source, gpt2).dtype == np.int32


def test_text_that_changes_while_it_is_read_leaves_no_stream(
    tmp_path: Path, gpt2: Tokenizer
) -> None:
    (tmp_path / "a").write_text("one")
    source = Source.open(str(tmp_path))

    def change(_: int) -> None:
        (tmp_path / "a").write_text("another")

    with pytest.raises(RunError, match="changed while it was read"):
        module.stream(source, gpt2, change)
    assert module.cached(source, gpt2) is None


def test_a_cache_that_can_not_be_written_is_said(
    tmp_path: Path, gpt2: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("one")
    monkeypatch.setenv("GPT2DSL_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"Not a directory; GPT2DSL_CACHE names another folder"):
        module.stream(Source.open(str(tmp_path / "file")), gpt2)


def test_a_long_file_is_encoded_a_piece_at_a_time(
    tmp_path: Path, gpt2: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "BLOCK", 2**12)
    monkeypatch.setattr(module, "PIECE", 2**10)
    monkeypatch.setattr(module, "BATCH", 4)
    longest = []
    encode_batch = Tokenizer.encode_batch

    def watched(self: Any, texts: list[str]) -> list[list[int]]:
        longest.append(sum(map(len, texts)))
        return encode_batch(self, texts)

    monkeypatch.setattr(Tokenizer, "encode_batch", watched)
    text = "the quick brown fox\n" * 5000
    (tmp_path / "a").write_text(text)
    found = module.stream(Source.open(str(tmp_path / "a")), gpt2).tolist()
    assert max(longest) < 2**13
    assert found == [*gpt2.encode(text), gpt2.eos]
