"""MindSpore Lite's environment for tests: made once in the repository, where Python 3.7 is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpt2dsl.errors import InputError
from gpt2dsl.lite import setup

CACHE = Path(__file__).parents[2] / ".lite"


def lite_cache() -> Path:
    """The cache whose folder ``lite`` has it; skips, saying why, where there is no Python 3.7."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT2DSL_CACHE", str(CACHE))
        CACHE.mkdir(exist_ok=True)
        try:
            setup.set_up(os.environ.get("GPT2DSL_PYTHON37", ""))
        except InputError as error:
            pytest.skip(f"MindSpore Lite is not tested: {error}")
    return CACHE
