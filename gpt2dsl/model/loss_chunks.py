"""Loss in chunks of tokens: the logits of a whole batch would be a step's largest tensors."""

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
    """Partition of a batch's tokens into equal chunks.

    With sequence parallelism a chunk has equally many tokens of each rank.

    Args:
        tokens: number of tokens in the batch.
        group: the tensor parallel group.
    """

    def __init__(self, tokens: int, group: TensorParallelGroup) -> None:
        self._ranks = group.size if group.sequence_parallel else 1
        self.count = chunk_count(tokens, self._ranks)
        self._gather, self._concat = P.Gather(), P.Concat(0)

    def rows(self, x: Tensor) -> Iterator[Tensor]:
        """Split this rank's rows, ``[rows, h]``, into ``count`` times ``[rows / count, h]``."""
        if self.count == 1:
            yield x
            return
        # a slice could be a view, which a graph mistakes for its base tensor
        for rows in np.split(np.arange(x.shape[0], dtype=np.int32), self.count):
            yield self._gather(x, Tensor(rows), 0)

    def join_rows(self, chunks: Sequence[Tensor]) -> Tensor:
        """Concatenate chunks: the inverse of ``rows``."""
        return chunks[0] if self.count == 1 else self._concat(chunks)

    def labels(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Split the labels of all ranks' tokens: ``[b, t] → [count, b t / count]``."""
        return self._swapped(labels, self._ranks, self.count).reshape(self.count, -1)

    def join_losses(self, chunks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Join the losses in batch order: ``count`` times ``[b t / count] → [b t]``."""
        return self._swapped(np.concatenate(chunks), self.count, self._ranks).reshape(-1)

    def _swapped(self, array: NDArray[Any], outer: int, inner: int) -> NDArray[Any]:
        """Transpose an array of ``outer`` x ``inner`` pieces."""
        return np.ascontiguousarray(array.reshape(outer, inner, -1).swapaxes(0, 1))
