from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.layout.tensor_layout import TensorLayout


@st.composite
def layouts(draw: st.DrawFn) -> tuple[TensorLayout, tuple[int, ...]]:
    """A layout, and a part's shape."""
    devices = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    free = list(range(len(devices)))
    axes = []
    for _ in range(draw(st.integers(1, 3))):
        axis = draw(st.sampled_from([-1, *free]))
        axes.append(axis)
        if axis >= 0:
            free.remove(axis)
    left = math.prod(devices[-1 - axis] for axis in free)
    divisors = [n for n in range(2, left + 1) if left % n == 0]
    shared = draw(st.sampled_from([0, *divisors]))
    part = tuple(draw(st.integers(1, 3)) for _ in axes)
    return TensorLayout(devices, tuple(axes), shared), part


@given(layouts())
def test_the_ranks_hold_every_element_equally_often(
    drawn: tuple[TensorLayout, tuple[int, ...]],
) -> None:
    layout, part = drawn
    whole = layout.whole(part)
    assert layout.part(whole) == part
    held = np.zeros(whole, int)
    for rank in range(layout.count):
        box = layout.box(whole, rank)
        assert tuple(last - first for first, last in box) == part
        held[tuple(slice(*edges) for edges in box)] += 1
    assert (held == layout.count // math.prod(layout.parts)).all()


@pytest.mark.parametrize(
    ("layout", "boxes"),
    [
        (TensorLayout((2, 2), (0, -1)), [(0, 4), (4, 8), (0, 4), (4, 8)]),
        (TensorLayout((2, 2), (1, -1)), [(0, 4), (0, 4), (4, 8), (4, 8)]),
        (TensorLayout((2, 2), (0, -1), shared=2), [(0, 2), (4, 6), (2, 4), (6, 8)]),
        (TensorLayout((2, 2), (-1, 0), shared=2), [(0, 4), (0, 4), (4, 8), (4, 8)]),
    ],
)
def test_axes_count_devices_from_the_last_and_what_is_left_shares_the_rows(
    layout: TensorLayout, boxes: list[tuple[int, int]]
) -> None:
    assert [layout.box((8, 6), rank)[0] for rank in range(4)] == boxes
