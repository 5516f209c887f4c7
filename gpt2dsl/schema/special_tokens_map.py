"""Keys of special_tokens_map.json.

transformers reads it if tokenizer_config.json has no ``added_tokens_decoder``; its keys then
override those of tokenizer_config.json.
"""

from __future__ import annotations

from gpt2dsl.schema import tokenizer_config
from gpt2dsl.schema.fate import Table

TABLE: Table = tokenizer_config.TABLE
