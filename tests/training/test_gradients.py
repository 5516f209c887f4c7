from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from mindspore import Tensor

from gpt2dsl.distributed.process_groups import NO_PIPELINE, NO_TENSOR_PARALLEL
from gpt2dsl.training.gradients import ALLREDUCE_BUCKET, GlobalGradNorm, buckets

SIZES = st.integers(1, 5000)
SHAPES = st.dictionaries(
    st.text("abc.", min_size=1, max_size=6),
    st.one_of(st.tuples(SIZES), st.tuples(SIZES, st.sampled_from([1, 768, 3072]))),
    max_size=30,
)


@given(SHAPES)
def test_each_tensor_is_exchanged_once_beside_others_of_its_width(
    shapes: dict[str, tuple[int, ...]],
) -> None:
    found = buckets(shapes)
    assert sorted(name for bucket in found for name in bucket) == sorted(shapes)
    for bucket in found:
        assert len({shapes[name][1:] for name in bucket}) == 1
        size = sum(math.prod(shapes[name]) for name in bucket)
        assert size <= ALLREDUCE_BUCKET or len(bucket) == 1


def test_the_norm_of_many_elements_is_accurate() -> None:
    random = np.random.default_rng(0)
    shapes = {"transformer.wte.weight": (5000, 768), "transformer.h.0.a": (768,), "b": (30, 7)}
    arrays = {
        name: (random.normal(size=shape) * 1e-3 + 1e-2).astype("f4")
        for name, shape in shapes.items()
    }
    expected = math.sqrt(sum(float((x.astype("f8") ** 2).sum()) for x in arrays.values()))
    norm = GlobalGradNorm({}, NO_TENSOR_PARALLEL, NO_PIPELINE)
    found = norm.of({name: Tensor(array) for name, array in arrays.items()})
    assert abs(found / expected - 1) < 1e-6
    assert math.isnan(norm.of({"b": Tensor(np.full((3, 2), np.nan, "f4"))}))
    assert norm.of({"b": Tensor(np.full((3, 2), 1e30, "f4"))}) == math.inf
