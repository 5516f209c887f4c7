from __future__ import annotations

from typing import Any

import pytest

from gpt2dsl.data.tokenizer import Tokenizer
from tests.engine.conftest import text
from tests.judges import TINY, hugging_face, random_weights


@pytest.fixture(scope="session")
def judge(tokenizer: Tokenizer) -> Any:
    """transformers with the same weights, in float64."""
    model = hugging_face(TINY, random_weights(TINY))
    model.generation_config.eos_token_id = tokenizer.eos
    model.generation_config.pad_token_id = tokenizer.eos
    return model


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    """A hundred, of one to seven words."""
    return [" ".join(text(1, start=i).split()[: 1 + i % 7]) for i in range(100)]
