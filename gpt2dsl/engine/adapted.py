"""An adapter on its base network: parameters that the adapter does not change are shared."""

from __future__ import annotations

import attrs
import numpy as np

from gpt2dsl.backend import device
from gpt2dsl.errors import InputError, some
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.weights import opening, reading
from gpt2dsl.weights.formats.config import OF_NETWORK
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.network_weights import Weights
from gpt2dsl.weights.values import Values


def read(weights: str, base: str, overrides: Overrides) -> Weights:
    """Return the weights of an adapter, merged into its base.

    Args:
        weights: as in ``reading.read``.
        base: the base weights, if the adapter's files name none.
        overrides: properties of the base that its files may lack.

    Raises:
        InputError: the weights are no adapter of a language model, or are unusable.
    """
    adapter = opening.adapter(weights, overrides, contents=False)
    names_none = adapter.origin is not None and not adapter.base
    merged = reading.read(weights, attrs.evolve(overrides, base=base if names_none else ""))
    if merged.geometry.labels:
        raise InputError("G2-317", weights, "it is an adapter of a classifier, and this is none")
    return merged


def network_with(base: GPT2, weights: Weights) -> GPT2:
    """Return a network with an adapter.

    Args:
        base: the complete base network; unchanged parameters are shared with it.
        weights: merged weights from ``read``.

    Raises:
        InputError: the adapter belongs to another base (G2-312).
    """
    assert weights.base
    _refuse_other_base(base, weights.base, weights)
    unchanged = {
        name for name, tensor in weights.tensors.items() if weights.base.tensors.get(name) is tensor
    }
    changed = {name: tensor for name, tensor in weights.tensors.items() if name not in unchanged}
    shared = {name: base.by_name[name] for name in unchanged}
    with device.turn():
        network = GPT2(weights.geometry, precision=base.precision, shared=shared)
        network.load(Values(changed, weights.location.files[0]))
    return network


def _refuse_other_base(network: GPT2, named: Weights, adapter: Weights) -> None:
    """Refuse an adapter whose base weights differ from the network's.

    Args:
        network: the network.
        named: base weights of the adapter.
        adapter: the adapter, for messages.
    """
    differing = [
        f"{key} is {theirs} there and {ours} here"
        for key in OF_NETWORK
        if (theirs := getattr(named.geometry, key)) != (ours := getattr(network.config, key))
    ]
    if not differing:
        differing = [f"{name} differs" for name in _other_values(network, named)]
    if differing:
        message = f"its base, {named.path}, is another one than this: {some(differing)}"
        raise InputError("G2-312", adapter.path, message)


def _other_values(network: GPT2, named: Weights) -> list[str]:
    """Return the names of parameters whose values differ from these weights."""
    names = []
    with device.turn():
        for name, array in named.arrays.items():
            values = network.by_name[name].asnumpy()[: len(array)]  # the vocabulary is padded
            if not np.array_equal(values, array):
                names.append(name)
    return names
