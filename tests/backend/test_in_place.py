"""Products in place: exact to the last bit but one, whatever the factor."""

from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor

from gpt2dsl.backend.in_place import multiply, shrink


@pytest.mark.parametrize("factor", [2.0, 0.99999, 0.5, 0.03, 1e-6, 0.03 / 65536])
@pytest.mark.parametrize("shape", [(7,), (257, 33)])
def test_a_product_in_place_is_that_of_float64(shape: tuple[int, ...], factor: float) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    tensor = Tensor(array)
    multiply([tensor], factor)
    np.testing.assert_allclose(tensor.asnumpy(), array.astype(np.float64) * factor, rtol=2e-7)


def test_a_factor_of_one_changes_no_bit() -> None:
    array = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    tensor = Tensor(array)
    multiply([tensor], 1.0)
    assert (tensor.asnumpy() == array).all()


@pytest.mark.parametrize("rate", [0.1, 1e-3, 1e-6])
def test_what_shrinks_loses_its_rate_of_itself_and_not_what_a_factor_of_float32_would(
    rate: float,
) -> None:
    array = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    tensor = Tensor(array)
    shrink([tensor], rate)
    lost = array.astype(np.float64) - tensor.asnumpy()
    assert lost @ array / (array @ array) == pytest.approx(rate, rel=1e-2)
