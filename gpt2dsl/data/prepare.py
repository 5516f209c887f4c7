"""Tokenizer and token stream of a recipe, both cached by content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpt2dsl.data import tokens
from gpt2dsl.data.source import Source
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.errors import FileError
from gpt2dsl.files import atomic, cache

TRAIN = "train"
"""Value of ``data.tokenizer`` for a vocabulary trained on the training text."""


def known_tokenizer(name: str, source: Source, vocab: int) -> str | None:
    """Return the argument of ``Tokenizer.load``; None if the vocabulary is yet to be trained."""
    if name != TRAIN:
        return name
    digest = source.known_digest()
    folder = _folder(digest, vocab) if digest else None
    return str(folder) if folder and folder.exists() else None


def tokenizer(name: str, source: Source, vocab: int) -> str:
    """Return the argument of ``Tokenizer.load``, after training the vocabulary if necessary.

    Raises:
        InputError: the text can't be read, or the vocabulary is too small for an alphabet.
    """
    if known := known_tokenizer(name, source, vocab):
        return known
    trained = Tokenizer.train(source.documents(), vocab)
    folder = _folder(source.digest(), vocab)
    try:
        with atomic.writing_folder(folder) as unfinished:
            trained.save(unfinished)
    except OSError as error:
        if not folder.exists():  # otherwise another process has written it
            message = f"{folder}: the cache can't be written: {error.strerror or error}"
            raise FileError("G2-403", f"{message}; GPT2DSL_CACHE names another folder") from error
    return str(folder)


def entries(tokenizer: str) -> int:
    """Return the number of ids of a tokenizer; a trained one may have fewer than requested."""
    return len(Tokenizer.load(tokenizer))


def known_tokens(source: Source, tokenizer: str) -> int | None:
    """Return the number of tokens of a source if they have been counted, else None."""
    if source.known_digest() is None:
        return None
    return tokens.cached(source, Tokenizer.load(tokenizer))


def stream(
    source: Source, tokenizer: str, progress: Callable[[int], object] | None = None
) -> tokens.Stream:
    """Return the token stream of a source, from the cache, which is filled if necessary."""
    return tokens.stream(source, Tokenizer.load(tokenizer), progress)


def _folder(digest: str, vocab: int) -> Path:
    return cache.folder("tokenizers") / f"{digest[:32]}-{vocab}"
