from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch

from gpt2dsl import Model
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import WTE
from gpt2dsl.model.evaluation import TokenLogits
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.initial import initial
from tests.judges import TINY, hugging_face, random_ids, random_weights


@pytest.mark.parametrize(
    "geometry",
    [
        TINY,
        attrs.evolve(TINY, activation="gelu"),
        attrs.evolve(TINY, activation="relu", inner=0),
        attrs.evolve(TINY, activation="fast_gelu", epsilon=1e-3),
        attrs.evolve(TINY, scale_attention=False),
        GPT2Config(layers=1, heads=1, hidden=8, positions=9, vocab=256, dropout=0.0),
        GPT2Config(layers=3, heads=5, hidden=35, positions=33, vocab=129, inner=1, dropout=0.0),
    ],
    ids=["gelu_new", "gelu", "relu", "fast_gelu", "unscaled", "one", "odd"],
)
def test_logits_are_those_of_transformers(geometry: GPT2Config) -> None:
    arrays = random_weights(geometry)
    network = GPT2(geometry)
    network.load(arrays)
    ids = random_ids(geometry, 3, min(17, geometry.positions))
    found = TokenLogits(network).logits(ids)
    with torch.no_grad():
        expected = hugging_face(geometry, arrays)(torch.tensor(ids).long()).logits.numpy()
    assert found.shape == (*ids.shape, geometry.vocab)
    assert abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("activation", ["gelu_new", "gelu"])
def test_logits_of_124m_are_those_of_transformers(activation: str) -> None:
    geometry = attrs.evolve(Model(size="124m").geometry(), activation=activation)
    arrays = dict(Arrays(initial(geometry, 0)))
    network = GPT2(geometry)
    network.load(arrays)
    ids = random_ids(geometry, 1, 48)
    found = TokenLogits(network).logits(ids)
    with torch.no_grad():
        model = hugging_face(geometry, arrays, double=False)
        expected = model(torch.tensor(ids).long()).logits.numpy()
    assert abs(found - expected).max() < 1e-4


def test_arrays_are_those_that_were_loaded_in_the_shapes_of_files(tiny: GPT2) -> None:
    arrays = random_weights(TINY)
    found = tiny.arrays()
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_padded_rows_of_the_word_table_are_zero(tiny: GPT2) -> None:
    assert tiny.by_name[WTE].shape == (384, 24)
    assert not tiny.by_name[WTE].asnumpy()[301:].any()


def test_parameters_have_hugging_faces_names(tiny: GPT2) -> None:
    assert {p.name for p in tiny.get_parameters()} == set(random_weights(TINY))


def test_missing_unknown_and_misshapen_tensors_are_refused(tiny: GPT2) -> None:
    arrays = random_weights(TINY)
    name = "transformer.h.1.mlp.c_fc.weight"
    for wrong in (
        {key: value for key, value in arrays.items() if key != name},
        {**arrays, "extra": arrays[name]},
        {**arrays, name: arrays[name].T},
    ):
        with pytest.raises(ValueError, match=r"c_fc|extra"):
            tiny.load(wrong)


def test_a_token_does_not_see_what_comes_after_it(tiny: GPT2) -> None:
    ids = random_ids(TINY, 1, 17)
    other = ids.copy()
    other[0, 9:] = (other[0, 9:] + 1) % TINY.vocab
    scores = TokenLogits(tiny)
    np.testing.assert_array_equal(scores.logits(ids)[0, :9], scores.logits(other)[0, :9])
