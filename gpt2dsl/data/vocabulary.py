"""Files of a byte-level BPE vocabulary: reading, checks, and one canonical form."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2dsl.data import documents
from gpt2dsl.errors import InputError
from gpt2dsl.schema import tokenizer_json

if TYPE_CHECKING:
    from gpt2dsl.data.tokenizer_settings import TokenizerSettings

PUBLISHED_FILES = (
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
)
"""SHA-256 of OpenAI's vocabulary and of its merges."""


def token_bytes(token: str) -> bytes:
    """Return the bytes of a byte-level token (Radford et al. 2019).

    As in the library, a token with characters outside the alphabet is encoded as UTF-8.
    """
    if not _BYTE_OF.keys() >= set(token):
        return token.encode()
    return bytes(_BYTE_OF[character] for character in token)


def _bytes_by_character() -> dict[str, int]:
    """Return character → byte: printable bytes are themselves, others follow from U+0100."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in shown]
    return {chr(b): b for b in shown} | {chr(0x100 + i): b for i, b in enumerate(hidden)}


_BYTE_OF = _bytes_by_character()


def library() -> Any:
    """Return the ``tokenizers`` library, imported on demand since few plans need it.

    It has no type information: its objects are Any.
    """
    return importlib.import_module("tokenizers")


def assembled(model: Any) -> Any:
    """Return a tokenizer that splits, encodes and decodes like GPT-2's."""
    tokenizers = library()
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    return inner


def from_parts(vocab: Path, merges: Path) -> Any:
    """Return the tokenizer of a vocab.json and a merges.txt."""
    ids = _ids(vocab, read_json(vocab))
    pairs = _pairs(merges, ids)
    _check_bytes(vocab, ids)
    return assembled(library().models.BPE(vocab=ids, merges=pairs))


def published(vocab: Path, merges: Path) -> Any:
    """Return the tokenizer of OpenAI's vocabulary; refuse files with other checksums."""
    for path, digest in zip((vocab, merges), PUBLISHED_FILES, strict=True):
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise _damaged(path, "it is not the vocabulary that OpenAI published")
    return assembled(library().models.BPE.from_file(str(vocab), str(merges)))


def from_description(path: Path, description: dict[str, Any]) -> Any:
    """Return the tokenizer of a tokenizer.json; refuse all but byte-level BPE."""
    kinds = [
        "+".join(tokenizer_json.steps(description.get(part))) or "none"
        for part in ("model", "pre_tokenizer", "decoder")
    ]
    splits = {*tokenizer_json.steps(description.get("normalizer")), *kinds[1].split("+")}
    refused = [
        tokenizer_json.TABLE[key].refusal(value)
        for key, value in (("model.type", kinds[0]), ("decoder", description.get("decoder")))
    ]
    if any(refused) or "ByteLevel" not in splits:
        names = ", ".join(kinds)
        raise _damaged(path, f"model, pre-tokenizer and decoder are {names}, not a byte-level BPE")
    try:
        inner = library().Tokenizer.from_str(json.dumps(description))
    except Exception as error:
        # The library raises no narrower class.
        raise _damaged(path, str(error)) from error
    _check_bytes(path, inner.get_vocab(with_added_tokens=False))
    _check_ids(
        path,
        inner,
        {token["content"]: token["id"] for token in description.get("added_tokens", ())},
    )
    inner.no_truncation()
    inner.no_padding()
    # Encoding must be deterministic; some files have the BPE dropout of their training.
    inner.model.dropout = None
    return inner


def complete(inner: Any, settings: TokenizerSettings, path: Path, *, is_converted: bool) -> None:
    """Add the tokens and flags of the files beside a vocabulary to its tokenizer.

    ``is_converted`` says whether the vocabulary comes from a vocab.json and a merges.txt.
    """
    added = [token for _, token in sorted(settings.added.items())]
    names = {token.content for token in (*inner.get_added_tokens_decoder().values(), *added)}
    special = settings.special
    # As in transformers, a token with flags replaces an existing one.
    added += [
        token
        for token in special
        if not (isinstance(token, str) and token in names) and token not in added
    ]
    named = set(map(str, special))
    inner.add_tokens([_marked(token, is_special=str(token) in named) for token in added])
    _check_ids(path, inner, {token.content: i for i, token in settings.added.items()})
    _set_prefix_space(inner, settings.flag("add_prefix_space"))
    if is_converted and settings.flag("add_bos_token"):
        _add_bos(inner, str(settings.roles.get("bos_token", "")), path)
    inner.encode_special_tokens = settings.flag("split_special_tokens")


def _marked(token: Any, *, is_special: bool) -> Any:
    """Return a token, special if it is named as such or already was."""
    make = library().AddedToken
    if isinstance(token, str):
        return make(token, special=is_special)
    return make(**(token.__getstate__() | {"special": token.special or is_special}))


def _check_ids(path: Path, inner: Any, ids: dict[str, int]) -> None:
    for content, number in ids.items():
        real = inner.token_to_id(content)
        if content and real != number:
            message = f"{content!r} has id {number} in the file, but {real} in transformers: "
            raise _damaged(path, message + "ids must have no gaps; save the tokenizer again")


def _set_prefix_space(inner: Any, wanted: bool) -> None:
    """Set add_prefix_space of a ByteLevel pre-tokenizer; a sequence stays unchanged."""
    split = json.loads(inner.to_str())["pre_tokenizer"] or {}
    if split.get("type") == "ByteLevel" and split["add_prefix_space"] != wanted:
        make = library().pre_tokenizers.ByteLevel
        inner.pre_tokenizer = make(add_prefix_space=wanted, use_regex=split["use_regex"])


def _add_bos(inner: Any, bos: str, path: Path) -> None:
    if not bos:
        raise _damaged(path, "add_bos_token is true, and there is no bos_token")
    make = library().processors.TemplateProcessing
    pair = [(bos, inner.token_to_id(bos))]
    try:
        inner.post_processor = make(
            single=[bos, "$A"], pair=[bos, "$A", "$B:1"], special_tokens=pair
        )
    except Exception as error:
        # The library raises no narrower class.
        raise _damaged(path, f"bos_token {bos!r}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; refuse a damaged one (G2-304)."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"it can't be read: {error.strerror or error}") from error
    return documents.loads(text, path)


def _ids(path: Path, content: dict[str, Any]) -> dict[str, int]:
    token = next((t for t, i in content.items() if type(i) is not int or not 0 <= i < 2**31), None)
    if token is not None:
        raise _damaged(path, f"the id of token {token!r} is {content[token]!r}")
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
    is_headed = lines[0].startswith("#version") or not lines[0].strip()
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
    if pairs and not is_headed:
        raise _damaged(path, f"line 1 is a pair: {_LOST}")
    if lines[-1].strip():
        raise _damaged(path, f"line {len(lines)} has no end of line: {_LOST}")
    return pairs


_LOST = (
    "transformers would leave it out, other libraries not; "
    "the first line is to be #version: 0.2, and each line to end"
)


def _check_bytes(path: Path, ids: dict[str, int]) -> None:
    alphabet = library().pre_tokenizers.ByteLevel.alphabet()
    absent = [symbol for symbol in alphabet if symbol not in ids]
    if absent:
        raise _damaged(path, f"{len(absent)} of the 256 bytes are no tokens: text would be lost")


def _damaged(path: Path, message: str) -> InputError:
    return InputError("G2-304", path, message)
