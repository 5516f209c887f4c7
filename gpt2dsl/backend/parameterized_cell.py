"""Graphs that are given the parameters that they compute with."""

from __future__ import annotations

from typing import Any

import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, Tensor

from gpt2dsl.backend.cached_cell import CachedCell


class ParameterizedCell(CachedCell):
    """A graph that is given its parameters: one for all layers of a kind.

    MindSpore compiles a graph anew for each Parameter that it is called with. This one is compiled
    once, with others of their shapes, and then given any, which it reads and writes in place.

    Args:
        depends: as for ``CachedCell``.
        is_kept: as for ``CachedCell``.
        writes: whether it changes Parameters that it is given.
    """

    def __init__(self, *depends: object, is_kept: bool = True, writes: bool = False) -> None:
        super().__init__(*depends, is_kept=is_kept)
        self._writes = writes
        self.negative, self.slice = P.Neg(), P.Slice()
        self.arguments_key: Any = ""
        self._has_mutable_args_list: Any = None
        self._compiled_for: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def compile(self, *args: Tensor, **kwargs: Any) -> None:
        """Compile for inputs of these shapes and types, if that was not done yet."""
        key = tuple((one.shape, one.dtype) for one in args)
        if key not in self._compiled_for:
            super().compile(*map(self._stand_in, args), **kwargs)
            self._compiled_for[key] = self.arguments_key, self._has_mutable_args_list
        # by which MindSpore finds the graph to run
        self.arguments_key, self._has_mutable_args_list = self._compiled_for[key]

    def _stand_in(self, value: Tensor) -> Tensor:
        """What is compiled with in place of a Parameter that is only read."""
        if self._writes or not isinstance(value, Parameter):
            return value
        return Tensor.from_numpy(np.zeros(value.shape, np.float32))

    def padding(self, x: Tensor, kernels: int) -> Tensor:
        """Kernels that do nothing, whose result has to be among the graph's.

        A graph of at most 100 kernels is run by MindSpore on the thread that calls it, which waits
        for those that compute in a loop and takes their time: products take a third longer. Kernels
        of one number take a microsecond each.

        Args:
            x: any tensor.
            kernels: so many that the graph has more than 100; a block has about 35, backward 80.
        """
        number = self.slice(x, (0,) * x.ndim, (1,) * x.ndim)  # a reshape would copy it
        for _ in range(kernels):
            number = self.negative(number)
        return number
