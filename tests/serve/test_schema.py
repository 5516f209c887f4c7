from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.serve.schema.completions import CompletionRequest
from gpt2dsl.weights.defaults import Defaults, Document

NET = Geometry(layers=1, heads=1, hidden=4, positions=16, vocab=300)
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
