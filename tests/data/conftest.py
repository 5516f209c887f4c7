from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl.data.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def gpt2() -> Tokenizer:
    return Tokenizer.load("gpt2")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GPT2DSL_CACHE", str(folder))
    return folder
