"""Token stream of a source: made once, cached on disk, memory-mapped.

The stream is every document's ids, with added special tokens, followed by the end-of-text id
unless the tokenizer appends it. Its file is named after the digests of source and tokenizer, so
it never goes stale, and its header gives its length.
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
from gpt2dsl.errors import FileError, RunError
from gpt2dsl.files import atomic, cache

FORMAT = 1
"""Version of the file: incremented whenever the same text and tokenizer give another one."""

PIECE = 2**15
"""Characters encoded at once; text that can't be split has longer pieces."""

BATCH = 32
"""Pieces per call of the encoder: all cores have work, and memory stays small."""

Stream = NDArray[np.integer[Any]]

# GPT-2's pre-tokenizer never merges a character with white space after it, and looks ahead by one
# character only: encoding both sides separately gives the same ids.
_BOUNDARY = re.compile(r"\S[ \n]")


def stream(
    source: Source, tokenizer: Tokenizer, progress: Callable[[int], object] | None = None
) -> Stream:
    """Return the token stream of a source, from the cache, which is filled if necessary.

    ``progress`` is called with the bytes encoded so far, unless the stream was cached.

    Raises:
        InputError: the text can't be read.
        RunError: the cache can't be written, or the text changed while it was read.
    """
    path = _path(source.digest(), tokenizer)
    tokens = _mapped(path)
    if tokens is None:
        try:
            atomic.write_file(path, lambda file: _write(file, source, tokenizer, progress))
        except OSError as error:
            message = f"{path}: the token cache can't be written: {error.strerror or error}"
            raise FileError("G2-403", f"{message}; GPT2DSL_CACHE names another folder") from error
        tokens = _mapped(path)
    if tokens is None:
        message = f"{path}: the token cache was damaged while it was in use; run again"
        raise FileError("G2-403", message)
    return tokens


def cached(source: Source, tokenizer: Tokenizer) -> int | None:
    """Return the number of tokens of a source's stream if it is cached, else None."""
    digest = source.known_digest()
    tokens = _mapped(_path(digest, tokenizer)) if digest else None
    return None if tokens is None else len(tokens)


def pieces(
    blocks: Iterable[tuple[str, bool]], length: int | None = PIECE
) -> Iterator[tuple[str, bool]]:
    """Split documents where encoding the pieces separately gives the same ids.

    Args:
        blocks: documents as yielded by :meth:`Source.blocks`.
        length: least characters of a piece that is not its document's last; None for one piece a
            document.

    Yields:
        Each piece, and whether it is its document's last.
    """
    pending, searched = "", 0
    for text, last in blocks:
        pending += text
        start = 0
        while length is not None:
            match = _BOUNDARY.search(pending, max(start + length - 1, searched))
            if match is None:
                break
            cut = match.start() + 1
            yield pending[start:cut], False
            start = cut
        pending = pending[start:]
        searched = max(0, len(pending) - 1)
        if last:
            yield pending, True
            pending, searched = "", 0


def _path(digest: str, tokenizer: Tokenizer) -> Path:
    return cache.folder("tokens") / f"{digest[:32]}-{tokenizer.digest[:32]}-v{FORMAT}.npy"


def _mapped(path: Path) -> Stream | None:
    """Return the stream in a cache file; None if the file is absent or incomplete."""
    try:
        tokens: Stream = np.load(path, mmap_mode="r", allow_pickle=False)
        is_complete = path.stat().st_size == tokens.offset + tokens.nbytes  # type: ignore[attr-defined]
    except (OSError, ValueError, EOFError):
        return None
    return tokens if is_complete else None


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
        # Otherwise the digest of the old text would name a stream of the new one.
        raise RunError("G2-402", f"{source.name}: it changed while it was read; run again")
    file.seek(0)
    _header(file, dtype, length)


def _header(file: BinaryIO, dtype: np.dtype[Any], length: int) -> None:
    """Write the header; NumPy pads it, so that the final length fits in place of the first."""
    description = {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, description)
