"""Special tokens, added tokens and flags in the files beside a vocabulary.

The precedence of files and keys is that of ``transformers.AutoTokenizer``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data import tokenizer_files, vocabulary
from gpt2dsl.data.tokenizer_digest import Roles
from gpt2dsl.errors import InputError
from gpt2dsl.schema import added_tokens, special_tokens_map, tokenizer_config
from gpt2dsl.schema.fate import Table, fates, refuse
from gpt2dsl.schema.tokenizer_config import ADDED, ADDITIONAL, CLASSES, EXTRA, ROLES

_TABLES: Mapping[str, Table] = {
    tokenizer_files.SETTINGS: tokenizer_config.TABLE,
    tokenizer_files.SPECIAL: special_tokens_map.TABLE,
    tokenizer_files.ADDED: added_tokens.TABLE,
}
USUAL_CLASS = "GPT2Tokenizer"
"""Class of a folder that names none."""

_DEFAULTED = ("bos_token", "eos_token", "unk_token")


@attrs.frozen(kw_only=True)
class TokenizerSettings:
    """Special tokens, added tokens and flags beside a vocabulary.

    Attributes:
        kind: class of the tokenizer in transformers.
        roles: key of a special token → token; keys of the same token share one object.
        more: additional special tokens.
        added: id → token.
        values: the other keys of tokenizer_config.json.
    """

    kind: str
    roles: Mapping[str, Any]
    more: tuple[Any, ...]
    added: Mapping[int, Any]
    values: Mapping[str, Any]

    def flag(self, key: str) -> bool:
        """Return the value of a boolean key; False where it is absent."""
        return bool(self.values.get(key, False))

    @property
    def special(self) -> list[Any]:
        """All special tokens in the order in which transformers adds them."""
        tokens: list[Any] = []
        seen: set[str] = set()
        for group in (*([token] for token in self.roles.values()), self.more):
            unseen = [token for token in group if token and str(token) not in seen]
            seen.update(map(str, unseen))
            tokens += unseen
        return tokens


def read(folder: Path, tokenizer_json: Mapping[str, Any] | None) -> TokenizerSettings:
    """Return the special tokens, added tokens and flags of a folder.

    Raises:
        InputError: a file is damaged (G2-304), or a key is not supported (G2-313).
    """
    files = {name: _read(folder / name) for name in _TABLES}
    config = files[tokenizer_files.SETTINGS] or {}
    kind = class_name(folder)
    if tokenizer_json is None:  # it names a substitute for tokenizer.json, which is absent
        config.pop("tokenizer_file", None)
    refuse(
        fate
        for name, content in files.items()
        for fate in fates(folder / name, content or {}, _TABLES[name])
    )
    values = {key: value for key, value in config.items() if key != "tokenizer_class"}
    added: dict[int, Any] = {}
    if ADDED in values:
        described = {int(i): _token(token) for i, token in values.pop(ADDED).items()}
    else:
        _lay_over(values, files[tokenizer_files.SPECIAL] or {})
        if tokenizer_json is None or files[tokenizer_files.ADDED]:
            added = _listed(files[tokenizer_files.ADDED] or {}, values)
        described = {
            token["id"]: _token(token) for token in (tokenizer_json or {}).get("added_tokens", ())
        }
    _from_vocabulary(values, tokenizer_json or {})
    # As in transformers, a key does not take over the flags of a token in added_tokens.json.
    roles, more = _settled(kind, values, described.values(), is_converted=tokenizer_json is None)
    return TokenizerSettings(
        kind=kind, roles=roles, more=more, added=added | described, values=values
    )


def class_name(folder: Path) -> str:
    """Return the class that a folder names, or that of GPT-2."""
    return _class_in(folder)[1]


def _class_in(folder: Path) -> tuple[str, str]:
    """Return the file that names the class, and the class."""
    for name in (tokenizer_files.SETTINGS, "config.json"):
        named = (_read(folder / name) or {}).get("tokenizer_class")
        if named is not None:
            return name, str(named)
    return "", USUAL_CLASS


def refuse_class(folder: Path) -> None:
    """Refuse a folder whose tokenizer class is not supported.

    Raises:
        InputError: the class is not supported (G2-313), or a file is damaged (G2-304).
    """
    file, named = _class_in(folder)
    if named in CLASSES:
        return
    foreign = [name for name in tokenizer_files.FOREIGN if (folder / name).is_file()]
    path = folder / (foreign[0] if foreign else file)
    reads = ", ".join(CLASSES)
    message = (
        f"{file} names {named} as tokenizer_class, which is not read here but {reads}; "
        "data.tokenizer names another folder, or gpt2"
    )
    raise InputError("G2-313", path, message)


def roles(inner: Any, settings: TokenizerSettings) -> Roles:
    """Return the ids of special tokens; an absent token has unk's id, as in ``transformers``."""

    def number(key: str) -> int | None:
        token = settings.roles.get(key)
        return None if token is None else inner.token_to_id(str(token))

    unk = number("unk_token")
    ids = {key: unk if (i := number(key)) is None else i for key in settings.roles}
    names = {kind: f"{kind}_token" for kind in ("bos", "eos", "unk", "pad")}
    return Roles(
        **{kind: ids.pop(key, None) for kind, key in names.items()},
        others=ids,
        cleans=settings.flag("clean_up_tokenization_spaces"),
        splits=settings.flag("split_special_tokens"),
        cuts_left=settings.values.get("truncation_side") == "left",
    )


def _lay_over(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Override keys of tokenizer_config.json by those of special_tokens_map.json."""
    for key, value in over.items():
        if key == ADDITIONAL and isinstance(value, list):
            tokens = list(values.get(ADDITIONAL) or [])
            for added in value:
                token = _token(added, special=True) if isinstance(added, dict) else added
                if token not in tokens:
                    tokens.append(token)
            values[key] = tokens
        elif key in ROLES and isinstance(value, dict):
            values[key] = _token(value, special=True)
        else:
            values[key] = value


def _listed(ids: Mapping[str, int], values: Mapping[str, Any]) -> dict[int, Any]:
    """Return the tokens of added_tokens.json; those that a key of ``values`` names are special."""
    named = [values.get(key) for key in ROLES] + list(values.get(ADDITIONAL) or [])
    special = {_content(token) for token in named if token}
    make = vocabulary.library().AddedToken
    return {
        i: make(text, normalized=text not in special, special=text in special)
        for text, i in ids.items()
    }


def _from_vocabulary(values: dict[str, Any], tokenizer_json: Mapping[str, Any]) -> None:
    """Set defaults of truncation_side and pad_token from a tokenizer.json."""
    truncation, padding = tokenizer_json.get("truncation"), tokenizer_json.get("padding")
    if isinstance(truncation, dict):
        values.setdefault("truncation_side", str(truncation.get("direction", "right")).lower())
    if isinstance(padding, dict):
        values.setdefault("pad_token", padding.get("pad_token"))


def _settled(
    kind: str, values: dict[str, Any], described: Iterable[Any], *, is_converted: bool
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Remove special tokens from ``values`` and return them, with descriptions resolved."""
    for key in _DEFAULTED:
        values.setdefault(key, CLASSES[kind])
    known = {str(token): token for token in described}
    roles = {}
    for key in ROLES:
        token = values.pop(key, None)
        if token is None:
            continue
        token = _made(token)
        token = known.get(str(token), token)
        if is_converted and isinstance(token, str) and key in (*_DEFAULTED, "pad_token"):
            token = vocabulary.library().AddedToken(token)
        roles[key] = token
    more = [_made(description) for description in values.pop(ADDITIONAL, ()) or ()]
    extra = values.pop(EXTRA, None) or {}
    if isinstance(extra, dict):
        roles |= {key: _made(description) for key, description in extra.items()}
    else:  # transformers 5 writes a list
        more += map(_made, extra)
    return roles, tuple(more)


def _token(description: Mapping[str, Any], **more: bool) -> Any:
    """Return the library's token for a description."""
    flags = ("lstrip", "rstrip", "single_word", "normalized", "special")
    options = {flag: description[flag] for flag in flags if flag in description} | more
    return vocabulary.library().AddedToken(description["content"], **options)


def _made(token: Any) -> Any:
    """Return the token of a description; a string or a token is returned unchanged."""
    return _token(token) if isinstance(token, dict) else token


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _read(path: Path) -> dict[str, Any] | None:
    return vocabulary.read_json(path) if path.is_file() else None
