"""Compiled graphs that take their parameters as arguments."""

from __future__ import annotations

from typing import Any

import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, Tensor

from gpt2dsl.backend.cached_cell import CachedCell


class ParameterizedCell(CachedCell):
    """Graph that takes its parameters as arguments: one for all layers of a kind.

    MindSpore recompiles a graph for each new Parameter argument. This one is compiled once, with
    stand-ins of the same shapes, and then reads and writes in place any Parameters passed to it.

    Args:
        depends: as for ``CachedCell``.
        is_kept: as for ``CachedCell``.
        writes: whether the graph writes to its Parameter arguments.
    """

    def __init__(self, *depends: object, is_kept: bool = True, writes: bool = False) -> None:
        super().__init__(*depends, is_kept=is_kept)
        self._writes = writes
        self.negative, self.slice = P.Neg(), P.Slice()
        self.arguments_key: Any = ""
        self._has_mutable_args_list: Any = None
        self._compiled_for: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def compile(self, *args: Tensor, **kwargs: Any) -> None:
        """Compile for inputs of these shapes and types, unless already compiled."""
        key = tuple((value.shape, value.dtype) for value in args)
        if key not in self._compiled_for:
            super().compile(*map(self._stand_in, args), **kwargs)
            self._compiled_for[key] = self.arguments_key, self._has_mutable_args_list
        # MindSpore selects the graph to run by these
        self.arguments_key, self._has_mutable_args_list = self._compiled_for[key]

    def _stand_in(self, value: Tensor) -> Tensor:
        """Return a plain tensor to compile with in place of a Parameter that is only read."""
        if self._writes or not isinstance(value, Parameter):
            return value
        return Tensor.from_numpy(np.zeros(value.shape, np.float32))

    def padding(self, x: Tensor, kernels: int) -> Tensor:
        """Append no-op kernels to the graph; the result must be one of its outputs.

        MindSpore runs a graph of at most 100 kernels on the calling thread, which busy-waits for
        the compute threads and takes their time: matrix products take a third longer. A kernel on
        one number takes a microsecond.

        Args:
            x: any tensor.
            kernels: number that brings the graph above 100 kernels; a block has about 35, its
                backward pass 80.
        """
        number = self.slice(x, (0,) * x.ndim, (1,) * x.ndim)  # a reshape would copy x
        for _ in range(kernels):
            number = self.negative(number)
        return number
