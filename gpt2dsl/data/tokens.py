"""The token stream of a source: made once, cached on disk, read as a memory map.

The stream is every document's ids, with what the tokenizer puts around a text, followed by the
end-of-text id where that is not the last one yet. Its file is named after what it
was made from, so it never goes stale, and its header says how long it must be.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.data.source import Source
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.errors import RunError
from gpt2dsl.files import atomic, cache

FORMAT = 1
"""Goes up whenever the same text and tokenizer would give another file."""

PIECE = 2**15
"""Characters encoded at once; a text that can't be cut makes longer pieces."""

BATCH = 32
"""Pieces encoded together, so that all cores have work and memory stays small."""

Stream = NDArray[np.integer[Any]]

# GPT-2's pre-tokenizer never puts a character and white space that follows it into one token, and
# looks at no more than the next character: encoding both sides apart gives the same ids.
_BOUNDARY = re.compile(r"\S[ \n]")


def stream(
    source: Source, tokenizer: Tokenizer, progress: Callable[[int], object] | None = None
) -> Stream:
    """Return the token stream of a source, from the cache or made now.

    Args:
        source: the text.
        tokenizer: how to encode it.
        progress: is told the bytes of text encoded so far, where they have to be.

    Raises:
        InputError: the text can't be read.
        RunError: the cache can't be written, or the text changed while it was read.
    """
    path = _path(source.digest(), tokenizer)
    found = _mapped(path)
    if found is None:
        try:
            atomic.write_file(path, lambda file: _write(file, source, tokenizer, progress))
        except OSError as error:
            raise RunError(
                f"{path}: the token cache can't be written: {error.strerror or error}; "
                "GPT2DSL_CACHE names another folder"
            ) from error
        found = _mapped(path)
    if found is None:
        raise RunError(f"{path}: the token cache was damaged while it was in use; run again")
    return found


def cached(source: Source, tokenizer: Tokenizer) -> int | None:
    """Return the tokens in the source's stream where it is cached already, else None."""
    digest = source.known_digest()
    found = _mapped(_path(digest, tokenizer)) if digest else None
    return None if found is None else len(found)


def pieces(
    blocks: Iterable[tuple[str, bool]], length: int | None = PIECE
) -> Iterator[tuple[str, bool]]:
    """Cuts documents where encoding the pieces apart gives the ids of the whole.

    Args:
        blocks: documents as :meth:`Source.blocks` gives them.
        length: characters a piece has at least, if it is not its document's last; None for whole
            documents.

    Yields:
        A piece, and whether it is its document's last.
    """
    held, searched = "", 0
    for text, last in blocks:
        held += text
        start = 0
        while length is not None:
            match = _BOUNDARY.search(held, max(start + length - 1, searched))
            if match is None:
                break
            cut = match.start() + 1
            yield held[start:cut], False
            start = cut
        held = held[start:]
        searched = max(0, len(held) - 1)
        if last:
            yield held, True
            held, searched = "", 0


def _path(digest: str, tokenizer: Tokenizer) -> Path:
    return cache.folder("tokens") / f"{digest[:32]}-{tokenizer.digest[:32]}-v{FORMAT}.npy"


def _mapped(path: Path) -> Stream | None:
    """Return the stream in a cache file; None where it is not there, or not whole."""
    try:
        tokens: Stream = np.load(path, mmap_mode="r", allow_pickle=False)
        whole = path.stat().st_size == tokens.offset + tokens.nbytes  # type: ignore[attr-defined]
    except (OSError, ValueError, EOFError):
        return None
    return tokens if whole else None


def _write(
    file: BinaryIO,
    source: Source,
    tokenizer: Tokenizer,
    progress: Callable[[int], object] | None,
) -> None:
    end = tokenizer.end
    dtype = np.dtype("<u2" if len(tokenizer) <= 2**16 else "<i4")
    _header(file, dtype, 0)
    length, done = 0, 0
    cut = pieces(source.blocks(), PIECE if tokenizer.splittable else None)
    while batch := list(itertools.islice(cut, BATCH if tokenizer.splittable else 1)):
        for (_, last), ids in zip(
            batch, tokenizer.encode_batch([text for text, _ in batch]), strict=True
        ):
            if last and not tokenizer.adds_end:
                ids.append(end)
            file.write(np.array(ids, dtype).tobytes())
            length += len(ids)
        if progress:
            done += sum(len(text.encode()) for text, _ in batch)
            progress(done)
    if not source.unchanged:
        # Under the digest that it had before, other text would be found from now on.
        raise RunError(f"{source.name}: it changed while it was read; run again")
    file.seek(0)
    _header(file, dtype, length)


def _header(file: BinaryIO, dtype: np.dtype[Any], length: int) -> None:
    """NumPy leaves room in it for the length to grow: the final one fits over the first."""
    description = {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, description)
