from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl import Schedule
from gpt2dsl.engine.lr_schedule import learning_rate
from gpt2dsl.parts.schedule import KINDS

PEAK = 1e-3


def rates(schedule: Schedule, total: int = 100, until: int = 120) -> list[float]:
    return [learning_rate(schedule, PEAK, step, total) for step in range(until)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_warm_up_is_linear_from_zero_to_the_peak(kind: str) -> None:
    found = rates(Schedule(kind=kind, warmup=10))
    assert found[:11] == pytest.approx([PEAK * step / 10 for step in range(11)])
    assert found == pytest.approx(rates(Schedule(kind=kind, warmup=0.1)))


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("constant", PEAK),
        ("linear", 0.0),
        ("cosine", 1e-5),
        ("cosine_restarts", 1e-5),
        ("polynomial", 1e-5),
    ],
)
def test_from_the_end_on_the_rate_stays(kind: str, end: float) -> None:
    assert rates(Schedule(kind=kind, warmup=10))[100:] == pytest.approx([end] * 20)


def test_shapes_half_way() -> None:
    middle = 55  # of 90 steps after a warm-up of 10
    at = {kind: rates(Schedule(kind=kind, warmup=10))[middle] for kind in KINDS}
    assert at["linear"] == pytest.approx(PEAK / 2)
    assert at["polynomial"] == pytest.approx((PEAK + 1e-5) / 2)
    assert at["cosine"] == pytest.approx((PEAK + 1e-5) / 2)
    power = rates(Schedule(kind="polynomial", warmup=10, power=2.0))[middle]
    assert power == pytest.approx(1e-5 + (PEAK - 1e-5) / 4)


def test_restarts_begin_at_the_peak_again() -> None:
    found = rates(Schedule(kind="cosine_restarts", cycles=3), total=90)
    assert found[0] == found[30] == found[60] == pytest.approx(PEAK)
    assert found[29] == pytest.approx(1e-5 + (PEAK - 1e-5) * (1 + math.cos(math.pi * 29 / 30)) / 2)


@given(st.sampled_from(KINDS), st.integers(0, 50), st.integers(51, 500), st.integers(0, 1000))
def test_rates_stay_between_zero_and_the_peak(
    kind: str, warmup: int, total: int, step: int
) -> None:
    rate = learning_rate(Schedule(kind=kind, warmup=warmup), PEAK, step, total)
    assert 0 <= rate <= PEAK * (1 + 1e-12)
