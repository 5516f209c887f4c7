"""The memory of parameters: taken when it is needed, given back when nothing uses them."""

from __future__ import annotations

import weakref

import numpy as np

from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.parts import Optim
from gpt2dsl.training.step import TrainStep
from tests.judges import TINY, random_weights


def test_the_moments_of_a_training_that_is_over_are_freed_when_the_next_network_is_made() -> None:
    network = GPT2(TINY)
    network.load(random_weights(TINY))
    step = TrainStep(network, Optim().settings())
    ids = np.zeros((1, 8), np.int32)
    step.step([MicroBatch(ids, ids)], 1e-3)
    moments = [weakref.ref(one) for one in step.optimizer.states()]
    del step, network
    GPT2(TINY)
    assert not any(one() for one in moments)


def test_arrays_that_were_loaded_are_not_changed_by_training() -> None:
    arrays = random_weights(TINY)
    before = {name: array.copy() for name, array in arrays.items()}
    network = GPT2(TINY)
    network.load(arrays)
    step = TrainStep(network, Optim(lr=0.1).settings())
    taken = network.arrays()
    ids = np.zeros((1, 8), np.int32)
    step.step([MicroBatch(ids, ids)], 0.1)
    for name, array in before.items():
        np.testing.assert_array_equal(arrays[name], array)
        np.testing.assert_array_equal(taken[name], array)
    assert any((value != before[name]).any() for name, value in network.arrays().items())
