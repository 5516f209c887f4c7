"""An adapter beside its base: a network that shares what the adapter leaves as it is."""

from __future__ import annotations

import numpy as np

from gpt2dsl.backend import device
from gpt2dsl.errors import InputError, some
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.weights import opening, reading
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.reading import Weights


def read(weights: str, base: str) -> Weights:
    """Return the weights of an adapter, merged into its base.

    Args:
        weights: as in ``reading.read``.
        base: the weights that it belongs to, where its files name none.

    Raises:
        InputError: they are no adapter of a language model, or can't be used.
    """
    own = opening.adapter(weights, Overrides(fetch=True), contents=False)
    names_none = own.origin is not None and not own.base
    merged = reading.read(weights, Overrides(fetch=True, base=base if names_none else ""))
    if merged.geometry.labels:
        raise InputError("G2-306", weights, "it is an adapter of a classifier, and this is none")
    return merged


def network_with(base: GPT2, weights: Weights) -> GPT2:
    """Return a network with an adapter.

    Args:
        base: the network without it, whole; parameters that are alike are shared.
        weights: of ``read``.

    Raises:
        InputError: the adapter's base is another one (G2-306).
    """
    assert weights.base
    _refuse_other_base(base, weights.base, weights)
    unchanged = {
        name for name, one in weights.tensors.items() if weights.base.tensors.get(name) is one
    }
    own = {name: one for name, one in weights.tensors.items() if name not in unchanged}
    shared = {name: base.by_name[name] for name in unchanged}
    with device.turn():
        network = GPT2(weights.geometry, precision=base.precision, shared=shared)
        network.load(Arrays(own))
    return network


def _refuse_other_base(network: GPT2, named: Weights, adapter: Weights) -> None:
    """Refuse an adapter of other weights than a network has.

    Args:
        network: the one that has them.
        named: the base that the adapter belongs to.
        adapter: it, for messages.
    """
    differing = [
        f"{key} is {theirs} there and {ours} here"
        for key in opening.OF_NETWORK
        if (theirs := getattr(named.geometry, key)) != (ours := getattr(network.geometry, key))
    ]
    if not differing:
        differing = [f"{name} differs" for name in _other_values(network, named)]
    if differing:
        message = f"its base, {named.path}, is another one than this: {some(differing)}"
        raise InputError("G2-306", adapter.path, message)


def _other_values(network: GPT2, named: Weights) -> list[str]:
    """Return the names of parameters that have other values than weights say."""
    names = []
    with device.turn():
        for name, array in named.arrays.items():
            held = network.by_name[name].asnumpy()[: len(array)]  # the vocabulary is padded
            if not np.array_equal(held, array):
                names.append(name)
    return names
