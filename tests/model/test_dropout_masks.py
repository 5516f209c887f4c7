from __future__ import annotations

import attrs
import numpy as np

from gpt2dsl.model import dropout_masks
from tests.judges import TINY

DROPPING = attrs.evolve(TINY, dropout=0.1)


def masks(
    seed: int = 0, step: int = 0, rows: tuple[int, ...] = (0, 1, 2)
) -> list[dropout_masks.Mask]:
    return list(dropout_masks.masks(DROPPING, seed, step, rows, 11))


def test_masks_repeat_and_differ_by_seed_step_and_place() -> None:
    first = masks()
    for one, again in zip(first, masks(), strict=True):
        np.testing.assert_array_equal(one, again)
    for other in (masks(seed=1), masks(step=1)):
        assert all((one != two).any() for one, two in zip(first, other, strict=True))
    hidden = [mask for mask in first if mask.ndim == 2]
    assert len({mask.tobytes() for mask in hidden}) == len(hidden)


def test_a_row_has_its_masks_wherever_it_is_computed() -> None:
    whole, part = masks(rows=(0, 1, 2, 3)), masks(rows=(2, 3))
    for one, two in zip(whole, part, strict=True):
        np.testing.assert_array_equal(one[one.shape[0] // 2 :], two)


def test_heads_and_rows_have_masks_of_their_own() -> None:
    attention = masks()[1]
    assert len({head.tobytes() for head in attention}) == 3 * DROPPING.heads


def test_masks_are_in_the_order_and_shape_of_the_network() -> None:
    hidden, attention = (3 * 11, 24), (3 * 3, 11, 11)
    assert [mask.shape for mask in masks()] == [hidden, *[attention, hidden, hidden] * 2]


def test_the_share_that_is_kept_is_the_probability() -> None:
    wide = attrs.evolve(DROPPING, hidden=600, heads=6)
    found = np.concatenate(
        [mask.ravel() for mask in dropout_masks.masks(wide, 7, 7, range(8), 64)]
    ).mean()
    assert abs(found - 0.9) < 1e-3
    assert abs(dropout_masks.keep(0.1) - 0.9) < 1e-5


def test_without_dropout_there_are_no_masks() -> None:
    assert not list(dropout_masks.masks(TINY, 0, 0, range(2), 4))
