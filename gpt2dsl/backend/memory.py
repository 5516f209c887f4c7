"""Memory of parameters in networks, optimizers and KV caches."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from threading import Thread

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor
from mindspore.common.initializer import Zero


def free_unused() -> None:
    """Free the parameters of discarded networks, optimizers and KV caches.

    MindSpore's objects contain reference cycles, so their memory waits for a garbage collection.
    """
    gc.collect()


def zeros(name: str, shape: tuple[int, ...]) -> Parameter:
    """Return a zero float32 parameter that takes memory only once it is written or read.

    Why not create it from the array: MindSpore copies the array and touches all of it.
    """
    parameter = Parameter(Tensor(shape=shape, dtype=ms.float32, init=Zero()), name=name)
    parameter.set_data(Tensor.from_numpy(np.zeros(shape, np.float32)))
    return parameter


def touching(parameters: Iterable[Parameter]) -> Thread:
    """Start a thread that commits the memory of new parameters while graphs are compiled.

    It takes a second per gigabyte; the parameters must not be written before the thread has ended.
    """
    arrays = [parameter.asnumpy() for parameter in parameters]

    def touch() -> None:
        for array in arrays:
            array.fill(0)

    thread = Thread(target=touch, daemon=True)
    thread.start()
    return thread
