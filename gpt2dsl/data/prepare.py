"""From a recipe's words to a tokenizer and a token stream, both cached by content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpt2dsl.data import tokens
from gpt2dsl.data.source import Source
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.errors import RunError
from gpt2dsl.files import atomic, cache

TRAIN = "train"
"""``data.tokenizer`` that is made from the training text."""


def known_tokenizer(name: str, source: Source, vocab: int) -> str | None:
    """What ``Tokenizer.load`` takes; None where the vocabulary is still to be trained.

    Args:
        name: gpt2, a folder, or train.
        source: the training text.
        vocab: entries of a vocabulary that is trained.
    """
    if name != TRAIN:
        return name
    digest = source.known_digest()
    folder = _folder(digest, vocab) if digest else None
    return str(folder) if folder and folder.exists() else None


def tokenizer(name: str, source: Source, vocab: int) -> str:
    """What ``Tokenizer.load`` takes, trained now if it must be; arguments as above.

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
        if not folder.exists():  # another process may have been faster
            raise RunError(
                f"{folder}: the cache can't be written: {error.strerror or error}; "
                "GPT2DSL_CACHE names another folder"
            ) from error
    return str(folder)


def entries(tokenizer: str) -> int:
    """Return how many ids a tokenizer has, of a trained one those that its text gave."""
    return len(Tokenizer.load(tokenizer))


def known_tokens(source: Source, tokenizer: str) -> int | None:
    """Return the tokens of a source where they have been counted before, else None."""
    if source.known_digest() is None:
        return None
    return tokens.cached(source, Tokenizer.load(tokenizer))


def stream(
    source: Source, tokenizer: str, progress: Callable[[int], object] | None = None
) -> tokens.Stream:
    """Return the token stream of a source, from the cache or made now."""
    return tokens.stream(source, Tokenizer.load(tokenizer), progress)


def _folder(digest: str, vocab: int) -> Path:
    return cache.folder("tokenizers") / f"{digest[:32]}-{vocab}"
