"""The files of a byte-level BPE vocabulary: read, checked, and put into one canonical form."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from operator import itemgetter
from pathlib import Path
from typing import Any

from gpt2dsl.errors import InputError

PUBLISHED_FILES = (
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
)
"""SHA-256 of OpenAI's vocabulary and of its merges."""


def token_bytes(token: str) -> bytes:
    """The bytes that a byte-level token's characters stand for (Radford et al. 2019).

    As in the library, a token with other characters is its own text.
    """
    if not _BYTE_OF.keys() >= set(token):
        return token.encode()
    return bytes(_BYTE_OF[character] for character in token)


def _bytes_by_character() -> dict[str, int]:
    """Printable bytes stand for themselves; the others are characters from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in shown]
    return {chr(b): b for b in shown} | {chr(0x100 + i): b for i, b in enumerate(hidden)}


_BYTE_OF = _bytes_by_character()


def library() -> Any:
    """The ``tokenizers`` library: imported when it is wanted, for not every plan needs it.

    It has no type information: its objects are Any.
    """
    return importlib.import_module("tokenizers")


def assembled(model: Any, end: str) -> Any:
    """A tokenizer that splits, encodes and decodes as GPT-2's.

    Args:
        model: the library's BPE model.
        end: the end-of-text token; the vocabulary grows by it where it lacks it.
    """
    tokenizers = library()
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    inner.add_special_tokens([end])
    return inner


def from_parts(vocab: Path, merges: Path, end: str) -> Any:
    """The tokenizer of a vocab.json and a merges.txt.

    Args:
        vocab: token → id.
        merges: a pair a line, in the order in which they were learnt.
        end: the end-of-text token; the vocabulary grows by it where it lacks it.
    """
    ids = _ids(vocab, _json(vocab))
    pairs = _pairs(merges, ids)
    _check_bytes(vocab, ids)
    return assembled(library().models.BPE(vocab=ids, merges=pairs), end)


def published(vocab: Path, merges: Path, end: str) -> Any:
    """The tokenizer of OpenAI's vocabulary, told by its checksums and so not checked further."""
    for path, digest in zip((vocab, merges), PUBLISHED_FILES, strict=True):
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise _damaged(path, "it is not the vocabulary that OpenAI published")
    return assembled(library().models.BPE.from_file(str(vocab), str(merges)), end)


def from_json(path: Path, end: str) -> Any:
    """The tokenizer of a tokenizer.json that is a byte-level BPE."""
    description = _json(path)
    kinds = []
    for part in ("model", "pre_tokenizer", "decoder"):
        found = description.get(part)
        kinds.append(str(found.get("type")) if isinstance(found, dict) else "none")
    if kinds != ["BPE", "ByteLevel", "ByteLevel"]:
        found = ", ".join(kinds)
        raise _damaged(path, f"model, pre-tokenizer and decoder are {found}, not a byte-level BPE")
    try:
        inner = library().Tokenizer.from_str(json.dumps(description))
    except Exception as error:
        # The library raises nothing more exact.
        raise _damaged(path, str(error)) from error
    _check_bytes(path, inner.get_vocab())
    inner.no_truncation()
    inner.no_padding()
    # Encoding must not be left to chance: some files come with the dropout of their training.
    inner.model.dropout = None
    if inner.token_to_id(end) is None:
        raise _damaged(path, f"it has no end-of-text token {end}")
    inner.add_special_tokens([end])
    return inner


def end_token(folder: Path, default: str) -> str:
    """The end-of-text token that a folder's settings name."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        if path.exists():
            token = _json(path).get("eos_token")
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str) and token:
                return token
    return default


def is_plain(description: dict[str, Any]) -> bool:
    """Whether text is split just as GPT-2 does.

    Args:
        description: a tokenizer.json.
    """
    split = description["pre_tokenizer"]
    return (
        description["normalizer"] is None
        and split["use_regex"] is not False
        and not split["add_prefix_space"]
        and all(
            re.fullmatch(r"[!-~]+", token["content"])
            and not (token["lstrip"] or token["rstrip"] or token["single_word"])
            for token in description["added_tokens"]
        )
    )


def digest(description: dict[str, Any], end: str) -> str:
    """SHA-256 of what decides the ids of a text; equal for all files that decide the same.

    Args:
        description: a tokenizer.json.
        end: the end-of-text token.
    """
    added = sorted((token["id"], token["content"]) for token in description["added_tokens"])
    # A special token may stand in the vocabulary too, or not: the ids are the same.
    ids = description["model"]["vocab"] | {content: number for number, content in added}
    vocab = sorted(ids.items(), key=itemgetter(1))
    split = [description["normalizer"], description["pre_tokenizer"]]
    whole = [end, vocab, description["model"]["merges"], added]
    whole.append("gpt2" if is_plain(description) else split)
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise _damaged(path, f"it can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise _damaged(path, "it is not a JSON object")
    return content


def _ids(path: Path, content: dict[str, Any]) -> dict[str, int]:
    wrong = next((t for t, i in content.items() if type(i) is not int or not 0 <= i < 2**31), None)
    if wrong is not None:
        raise _damaged(path, f"the id of token {wrong!r} is {content[wrong]!r}")
    if sorted(content.values()) != list(range(len(content))):
        raise _damaged(
            path, f"the ids of its {len(content)} tokens are not 0 to {len(content) - 1}"
        )
    return content


def _pairs(path: Path, ids: dict[str, int]) -> list[tuple[str, str]]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except OSError as error:
        raise _damaged(path, f"it can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise _damaged(path, f"byte {error.start} is not UTF-8") from error
    pairs, known = [], ids.keys()
    for number, line in enumerate(lines, 1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.rstrip("\r").partition(" ")
        if not right or " " in right:
            raise _damaged(path, f"line {number} is not a pair")
        if not known >= {left, right, left + right}:
            token = next(token for token in (left, right, left + right) if token not in ids)
            raise _damaged(path, f"line {number}: {token!r} is not in the vocabulary")
        pairs.append((left, right))
    return pairs


def _check_bytes(path: Path, ids: dict[str, int]) -> None:
    alphabet = library().pre_tokenizers.ByteLevel.alphabet()
    absent = [symbol for symbol in alphabet if symbol not in ids]
    if absent:
        raise _damaged(path, f"{len(absent)} of the 256 bytes are no tokens: text would be lost")


def _damaged(path: Path, message: str) -> InputError:
    return InputError("G2-304", path, message)
