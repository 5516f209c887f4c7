from __future__ import annotations

import math

import numpy as np

from gpt2dsl import Model
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.initial import initial

GEOMETRY = Model(size="nano").geometry(vocab=2000)


def test_new_weights_are_as_the_paper_says() -> None:
    weights = dict(Arrays(initial(GEOMETRY, 0)))
    assert abs(weights["transformer.wte.weight"].std() - 0.02) < 2e-4
    assert abs(weights["transformer.h.0.mlp.c_fc.weight"].std() - 0.02) < 2e-4
    scaled = 0.02 / math.sqrt(2 * 4)
    for name in ("attn.c_proj", "mlp.c_proj"):
        assert abs(weights[f"transformer.h.3.{name}.weight"].std() - scaled) < 2e-4
        assert not weights[f"transformer.h.3.{name}.bias"].any()
    assert (weights["transformer.ln_f.weight"] == 1).all()
    assert not weights["transformer.ln_f.bias"].any()
    assert all(array.dtype == np.float32 for array in weights.values())


def test_new_weights_follow_from_the_seed_and_the_name() -> None:
    one, again, other = (
        dict(Arrays(initial(GEOMETRY, 3))),
        dict(Arrays(initial(GEOMETRY, 3))),
        dict(Arrays(initial(GEOMETRY, 4))),
    )
    for name, array in one.items():
        np.testing.assert_array_equal(array, again[name])
    name = "transformer.h.1.mlp.c_fc.weight"
    assert (one[name] != other[name]).mean() > 0.99
    assert (one[name] != one["transformer.h.2.mlp.c_fc.weight"]).mean() > 0.99
