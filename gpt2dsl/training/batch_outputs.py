"""Outputs of a batch without dropout and gradients, over all ranks: token losses, class scores.

Each replica computes its own rows, a few at a time, and a pipeline's stages work on different rows
at the same time. Letters in shapes are those of gpt2.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mindspore.ops.operations as P
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.backend import device
from gpt2dsl.distributed.process_groups import NO_DATA_PARALLEL, ProcessGroup
from gpt2dsl.model.evaluation import ClassScores, TokenLosses
from gpt2dsl.model.forward import Forward, MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.training.pipeline import p2p_channels

Ids = NDArray[np.int32]
Array = NDArray[np.float32]


class BatchOutputs:
    """Computation of a batch's outputs, which every rank gets: all must call.

    A language model's are the loss of each token in nats, ``[b, t]``; a classifier's the scores of
    each class, ``[b, labels]``. They are the same under every layout, up to rounding in products.

    Args:
        network: this rank's part of the network.
        rows: number of rows that are computed at a time.
        data_group: the replicas; each computes an equal share of a batch's rows.
    """

    def __init__(
        self, network: GPT2, rows: int, data_group: ProcessGroup = NO_DATA_PARALLEL
    ) -> None:
        self._rows, self._replicas, self._width = rows, data_group, network.config.labels
        self._stage = _Stage(network)
        groups = (network.pipeline_group, data_group)
        self._sums = [P.AllReduce(group=group.name) for group in groups if group.size > 1]

    @device.turn()
    def of(self, ids: Ids, targets: Ids, counts: NDArray[Any]) -> Array:
        """Return the outputs of a batch, 0 for rows that were not computed.

        Args:
            ids: ``[b, t]``.
            targets: ``[b, t]`` labels of a language model; ``[b]`` positions of the last tokens for
                a classifier.
            counts: ``[b]``, False for rows of padding: parts with no other rows are left out.
        """
        outputs = np.zeros((len(ids), self._width or ids.shape[1]), np.float32)
        for number, part in enumerate(self._parts(counts)):
            computed = self._stage.run(ids[part], targets[part], number)
            if computed is not None:
                outputs[part] = computed
        for add in self._sums:
            outputs = np.array(add(Tensor(outputs)).asnumpy())
        return outputs

    def _parts(self, counts: NDArray[Any]) -> Iterator[slice]:
        """Yield this replica's rows, a part at a time."""
        share = len(counts) // self._replicas.size
        own = range(self._replicas.index * share, (self._replicas.index + 1) * share)
        for first in own[:: self._rows]:
            part = slice(first, min(first + self._rows, own.stop))
            if counts[part].any():
                yield part


class _Stage:
    """Forward pass of this rank's pipeline stage; of all layers without a pipeline."""

    def __init__(self, network: GPT2) -> None:
        self._network, group = network, network.pipeline_group
        channels = p2p_channels(group)
        self._before, self._next = channels.get(group.index - 1), channels.get(group.index + 1)
        self._head: Callable[[Ids, Ids, Tensor | None], Array] | None = None
        if not group.is_last:
            self._forward = Forward(network)
        elif network.config.labels:
            self._head = ClassScores(network).logits
        else:
            self._head = TokenLosses(network).losses

    def run(self, ids: Ids, targets: Ids, number: int) -> Array | None:
        """Return the outputs of rows on the last stage; None on others, which pass them on.

        ``number`` tags the transfers of a part.
        """
        x, tag = None, number + 1
        if self._before:
            shape = ids.size, self._network.config.hidden  # [b t, h]
            x = Tensor(self._before.receive(shape, tag))
        if self._head:
            return self._head(ids, targets, x)
        assert self._next
        y = self._forward.run(MicroBatch(ids, targets), x, saves=False).x
        self._next.send(self._network.gather_rows(y).asnumpy(), tag)
        return None
