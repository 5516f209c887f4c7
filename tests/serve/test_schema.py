from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.serve.errors import ApiError
from gpt2dsl.serve.schema import base
from gpt2dsl.serve.schema.completions import CompletionRequest
from gpt2dsl.weights.defaults import Defaults, Document

NET = GPT2Config(layers=1, heads=1, hidden=4, positions=16, vocab=300)
FILE = {
    "eos_token_id": [6], "max_length": 9, "num_beams": 4, "num_return_sequences": 2,
    "temperature": 0.5, "top_k": 7, "repetition_penalty": 1.5, "suppress_tokens": [3],
}  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, {"temperature": 0.5, "top_k": 7, "repetition_penalty": 1.5, "do_sample": True}),
        ({"temperature": 0.9, "top_k": 0}, {"temperature": 0.9, "top_k": 0}),
        ({"temperature": 0}, {"do_sample": False, "repetition_penalty": 1.5}),
        ({"min_tokens": 2}, {"min_new_tokens": 2}),
    ],
    ids=str,
)
def test_what_a_request_leaves_out_the_weights_file_says(
    request_: dict[str, Any], expected: dict[str, Any]
) -> None:
    defaults = Defaults.of(None, Document(Path("generation_config.json"), FILE), NET)
    asked = CompletionRequest.model_validate({"model": "m", "prompt": "a", **request_})
    found = defaults.completed(asked.generation(64))
    assert {key: getattr(found, key) for key in expected} == expected
    assert (found.max_new_tokens, found.max_length) == (16, None)
    assert (found.beams, found.num_return_sequences) == (1, 1)
    assert (found.eos, found.suppress_tokens) == ((6,), (3,))


def test_without_a_file_openai_s_defaults_hold() -> None:
    found = Defaults().completed(CompletionRequest.model_validate({"model": "m"}).generation(64))
    assert (found.max_new_tokens, found.temperature, found.top_p, found.do_sample) == (
        16, 1.0, 1.0, True,
    )  # fmt: skip


def count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(count, value.values()))
    return 1 + sum(map(count, value)) if isinstance(value, list) else 0


TEXTS = st.text('[{"\\\\/é\n]}', max_size=12)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(), st.none()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXTS, inner)),
)


@given(value=VALUES, piece=st.integers(1, 9), ascii_only=st.booleans())
def test_lists_and_tables_are_counted_as_json_reads_them(
    value: Any, piece: int, ascii_only: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "MOST_CONTAINERS", -1)
        patch.setattr(base, "_PIECE", piece)
        raw = json.dumps(value, ensure_ascii=ascii_only).encode()
        assert base.containers(raw) == count(value)


def test_a_body_of_very_many_lists_is_refused_unread_and_a_text_of_brackets_is_not() -> None:
    with pytest.raises(ApiError, match="the body has 150002 lists and tables, more than 5000"):
        base.parsed([CompletionRequest], json.dumps({"prompt": [[1]] * 150_000}).encode())
    text = '[{"a": ' * 20_000
    body = base.parsed([CompletionRequest], json.dumps({"prompt": text}).encode())
    assert body.prompts == [text]
