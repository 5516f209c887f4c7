"""Names of a tokenizer's files: those that are read, copied, or of another kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpt2dsl.errors import InputError

WHOLE = "tokenizer.json"
VOCAB = "vocab.json"
MERGES = "merges.txt"
SETTINGS = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
ADDED = "added_tokens.json"
READ = (WHOLE, VOCAB, MERGES, SETTINGS, SPECIAL, ADDED)
"""Files that decide the ids of a text and the roles of special tokens."""

TEMPLATES = "additional_chat_templates"
KEPT = (*READ, "chat_template.jinja", "chat_template.json")
"""Files that are copied with the weights, besides the templates in ``TEMPLATES``."""

FOREIGN = {
    "vocab.txt": "WordPiece",
    "spiece.model": "SentencePiece",
    "tokenizer.model": "SentencePiece or tiktoken",
    "sentencepiece.bpe.model": "SentencePiece",
    "sentencepiece.model": "SentencePiece",
    "source.spm": "SentencePiece",
    "target.spm": "SentencePiece",
    "spm.model": "SentencePiece",
    "spm_char.model": "SentencePiece",
    "tokenizer.tiktoken": "tiktoken",
    "tekken.json": "tiktoken",
    "bpe.codes": "BPE of words",
}
"""File of a vocabulary other than byte-level BPE → its kind."""


def is_beside(folder: Path) -> bool:
    """Return whether a folder has a file of a tokenizer of any kind."""
    return any((folder / name).is_file() for name in (*READ, *FOREIGN))


def parts(folder: Path) -> tuple[Path, Path]:
    """Return the vocab.json and the merges.txt of a folder.

    Raises:
        InputError: one of them is absent (G2-301, or G2-304 beside files of another kind).
    """
    vocab, merges = folder / VOCAB, folder / MERGES
    for file in (vocab, merges):
        if not file.exists():
            foreign = next(filter(Path.is_file, map(folder.joinpath, FOREIGN)), None)
            if foreign:
                kind = FOREIGN[foreign.name]
                cure = "data.tokenizer names another folder, or gpt2"
                message = f"it is of a {kind} tokenizer, and only byte-level BPE is read; {cure}"
                raise InputError("G2-304", foreign, message)
            absent = f"there is no tokenizer.json, and no {file.name}"
            raise InputError("G2-301", folder, absent if folder.exists() else "it is not there")
    return vocab, merges


def read(folder: Path) -> dict[str, bytes]:
    """Return the files that are copied with weights: path in the folder → content.

    Raises:
        OSError: one of them can't be read.
    """
    return {name: path.read_bytes() for name, path in paths(folder).items()}


def paths(folder: Path) -> dict[str, Path]:
    """Return the files that ``read`` reads: path in the folder → path."""
    paths = [folder / name for name in (*KEPT, *FOREIGN)]
    paths += sorted((folder / TEMPLATES).glob("*.jinja"))
    return {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}


def write(folder: Path, contents: dict[str, bytes]) -> None:
    """Write files from ``read`` into another folder.

    Raises:
        OSError: the disk is full or can't be written.
    """
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def with_default(contents: dict[str, bytes], **keys: Any) -> dict[str, bytes]:
    """Return files with keys added to their settings; existing keys stay as they are."""
    return _with_settings(contents, SETTINGS, keys, replace=False)


def with_pad(contents: dict[str, bytes], token: str) -> dict[str, bytes]:
    """Return files with a token set as pad_token."""
    pads = {"pad_token": token}
    for name in (SETTINGS, SPECIAL):
        contents = _with_settings(contents, name, pads, replace=True)
    return contents


def _with_settings(
    contents: dict[str, bytes], name: str, more: dict[str, Any], *, replace: bool
) -> dict[str, bytes]:
    content = json.loads(contents.get(name, b"{}"))
    unlike = {key: value for key, value in more.items() if replace or content.get(key) is None}
    if not unlike:
        return contents
    text = json.dumps(content | unlike, indent=2, ensure_ascii=False) + "\n"
    return contents | {name: text.encode()}
