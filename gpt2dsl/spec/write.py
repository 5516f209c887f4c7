"""Writing of parts as TOML, by tomli-w."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tomli_w

from gpt2dsl.parts import Part, Task


def to_toml(parts: Iterable[Part]) -> str:
    """Return a table per part with its values that are set; reads back as equal parts."""
    return _text(_document(parts))


def stages_to_toml(stages: Iterable[Iterable[Part]]) -> str:
    """Return a ``[[stage]]`` per recipe, with its parts as ``[stage.train]``."""
    documents = [_document(parts) for parts in stages]
    tables = [_text({"stage": document}) if document else "" for document in documents]
    return "\n".join(f"[[stage]]\n{table}" for table in tables)


def _text(document: dict[str, Any]) -> str:
    return tomli_w.dumps(document, multiline_strings=False)


def _document(parts: Iterable[Part]) -> dict[str, Any]:
    return {part.table: _table(part) for part in parts}


def _table(part: Part) -> dict[str, Any]:
    kind = {"kind": part.kind} if isinstance(part, Task) else {}
    fields = {**part.changed(), **{k: v for k, v in part.given().items() if v is not None}}
    return {**kind, **{name: _plain(fields[name]) for name in part.rules() if name in fields}}


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return _table(value)
    return list(value) if isinstance(value, tuple) else value
