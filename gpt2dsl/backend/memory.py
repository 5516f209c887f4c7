"""Memory of parameters: of networks, optimizers and caches."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from threading import Thread

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor
from mindspore.common.initializer import Zero


def free_unused() -> None:
    """Free the parameters of networks, optimizers and caches that are not used any more.

    Each of MindSpore's refers to itself, so that its memory waits for a garbage collection.
    """
    gc.collect()


def zeros(name: str, shape: tuple[int, ...]) -> Parameter:
    """Return a float32 parameter, which takes memory once it is written or read.

    Why not of the array at once: MindSpore copies that, and touches all of it.
    """
    parameter = Parameter(Tensor(shape=shape, dtype=ms.float32, init=Zero()), name=name)
    parameter.set_data(Tensor.from_numpy(np.zeros(shape, np.float32)))
    return parameter


def touching(parameters: Iterable[Parameter]) -> Thread:
    """Take the memory of new parameters, a second for each gigabyte, while graphs are compiled.

    They must not be written before the thread has ended.
    """
    arrays = [parameter.asnumpy() for parameter in parameters]

    def touch() -> None:
        for array in arrays:
            array.fill(0)

    thread = Thread(target=touch, daemon=True)
    thread.start()
    return thread
