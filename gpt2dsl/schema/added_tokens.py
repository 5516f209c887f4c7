"""Keys of added_tokens.json: each is a token, its value the token's id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpt2dsl.schema.fate import KeySpec, Table, used


def _id(value: Any) -> str:
    return "" if type(value) is int and value >= 0 else "an id is expected"


class _EveryKey(Mapping[str, KeySpec]):
    """A table with the same row for every key."""

    def __init__(self, row: KeySpec) -> None:
        self._row = row

    def __getitem__(self, key: str) -> KeySpec:
        return self._row

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


TABLE: Table = _EveryKey(used("an added token where tokenizer_config.json lists none", _id))
