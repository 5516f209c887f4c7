"""New parameters of networks and optimizers."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor
from mindspore.common.initializer import Zero


def zeros(name: str, shape: tuple[int, ...]) -> Parameter:
    """A float32 parameter, which takes memory once it is written or read.

    Why not of the array at once: MindSpore copies that, and touches all of it.
    """
    parameter = Parameter(Tensor(shape=shape, dtype=ms.float32, init=Zero()), name=name)
    parameter.set_data(Tensor.from_numpy(np.zeros(shape, np.float32)))
    return parameter
