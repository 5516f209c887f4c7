"""The keys of special_tokens_map.json.

transformers reads it where tokenizer_config.json has no ``added_tokens_decoder``, and lets any
key of it stand for the one of tokenizer_config.json.
"""

from __future__ import annotations

from gpt2dsl.schema import tokenizer_config
from gpt2dsl.schema.fate import Table

TABLE: Table = tokenizer_config.TABLE
