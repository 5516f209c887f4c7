from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import param_specs
from gpt2dsl.weights import reading
from gpt2dsl.weights.files.lazy_tensor import Array
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.infer_config import Overrides


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["the cat sat on the mat " * 9], 280)


@pytest.fixture(scope="session")
def geometry(tokenizer: Tokenizer) -> GPT2Config:
    return GPT2Config(layers=2, heads=2, hidden=8, positions=16, vocab=len(tokenizer))


def random_arrays(geometry: GPT2Config, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {t.name: random.normal(size=t.shape).astype(np.float32) for t in param_specs(geometry)}


def read_all(path: Path, overrides: Overrides | None = None) -> None:
    """Read every value, as loading a network does."""
    for tensor in reading.read(path, overrides).values.values():
        tensor[()]


@pytest.fixture(scope="session")
def arrays(geometry: GPT2Config) -> dict[str, Array]:
    return random_arrays(geometry)


@pytest.fixture
def folder(tmp_path: Path, geometry: GPT2Config, arrays: dict[str, Array]) -> Path:
    path = tmp_path / "weights"
    path.mkdir()
    huggingface.write(path, geometry, arrays)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2DSL_CACHE", str(tmp_path_factory.mktemp("cache")))
