"""Fixtures of the tests that compute: MindSpore on CPU, and a small network."""

from __future__ import annotations

import pytest

from gpt2dsl.backend import device
from gpt2dsl.model.gpt2 import GPT2
from tests.judges import TINY, random_weights


@pytest.fixture(scope="session", autouse=True)
def on_cpu() -> None:
    device.use("cpu")


@pytest.fixture(scope="session")
def tiny() -> GPT2:
    """A small network that no test changes."""
    network = GPT2(TINY)
    network.load(random_weights(TINY))
    return network
