"""Two ranks that share layers with collectives that are wrong and give no error.

Those that are right are in tests/engine/test_parallel.py.
"""

from __future__ import annotations

import pytest

from gpt2dsl.distributed.context import ParallelContext
from tests.distributed import wrong_conjugates
from tests.ranks import told_by


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """Losses of two ranks, by the operator that is wrong."""
    folder = tmp_path_factory.mktemp("conjugates")
    found: dict[str, list[float]] = told_by(wrong_conjugates, folder, collective=120)
    return found


@pytest.fixture(scope="module")
def expected() -> list[float]:
    """Losses of one process."""
    return wrong_conjugates.losses(ParallelContext())


@pytest.mark.parametrize("wrong", ["_AllReduce", "_AllReduceGrad"])
def test_a_collective_with_the_wrong_gradient_would_be_seen(
    told: dict[str, list[float]], expected: list[float], wrong: str
) -> None:
    """The forward pass is right: only the steps after the first tell."""
    assert told[wrong][0] == pytest.approx(expected[0], rel=1e-5)
    assert max(abs(one - other) for one, other in zip(told[wrong], expected, strict=True)) > 1e-3
