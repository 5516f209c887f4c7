from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.layout.tensors import tensors
from gpt2dsl.weights.files.stored import Array
from gpt2dsl.weights.formats import huggingface


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["the cat sat on the mat " * 9], 280)


@pytest.fixture(scope="session")
def geometry(tokenizer: Tokenizer) -> Geometry:
    return Geometry(layers=2, heads=2, hidden=8, positions=16, vocab=len(tokenizer))


def random_arrays(geometry: Geometry, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {t.name: random.normal(size=t.shape).astype(np.float32) for t in tensors(geometry)}


@pytest.fixture(scope="session")
def arrays(geometry: Geometry) -> dict[str, Array]:
    return random_arrays(geometry)


@pytest.fixture
def folder(tmp_path: Path, geometry: Geometry, arrays: dict[str, Array]) -> Path:
    path = tmp_path / "weights"
    path.mkdir()
    huggingface.write(path, geometry, arrays)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2DSL_CACHE", str(tmp_path_factory.mktemp("cache")))
