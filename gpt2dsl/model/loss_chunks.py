"""Some tokens of a batch at a time: the logits of all would be the largest tensors of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mindspore.ops.operations as P
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.distributed.process_groups import TensorParallelGroup
from gpt2dsl.layout.loss_chunks import chunk_count


class LossChunks:
    """The portions that the tokens of a batch are taken in.

    Where each rank works on some tokens, a portion has as many of each rank's.

    Args:
        tokens: of the batch.
        shard: ranks that share the layers.
    """

    def __init__(self, tokens: int, shard: TensorParallelGroup) -> None:
        self._ranks = shard.mp if shard.sequence else 1
        self.count = chunk_count(tokens, self._ranks)
        self._gather, self._concat = P.Gather(), P.Concat(0)

    def rows(self, x: Tensor) -> Iterator[Tensor]:
        """This rank's rows, ``[rows, h]``, as ``count`` times ``[rows / count, h]``."""
        if self.count == 1:
            yield x
            return
        # a slice could be a view, which a graph takes for what it is a view of
        for rows in np.split(np.arange(x.shape[0], dtype=np.int32), self.count):
            yield self._gather(x, Tensor(rows), 0)

    def joined_rows(self, found: Sequence[Tensor]) -> Tensor:
        """Return the opposite of ``rows``."""
        return found[0] if self.count == 1 else self._concat(found)

    def labels(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """``[b, t] → [count, b t / count]``, of all ranks' tokens."""
        return self._swapped(labels, self._ranks, self.count).reshape(self.count, -1)

    def joined_losses(self, found: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """``count`` times ``[b t / count] → [b t]``, in the order of the batch."""
        return self._swapped(np.concatenate(found), self.count, self._ranks).reshape(-1)

    def _swapped(self, array: NDArray[Any], outer: int, inner: int) -> NDArray[Any]:
        """``outer`` times ``inner`` pieces, the other way around."""
        return np.ascontiguousarray(array.reshape(outer, inner, -1).swapaxes(0, 1))
