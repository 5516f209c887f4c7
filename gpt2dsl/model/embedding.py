"""Word and position embeddings.

Letters in shapes are those of block.py.
"""

from __future__ import annotations

import mindspore.ops.operations as P
from mindspore import Parameter, Tensor, nn

from gpt2dsl.distributed.collectives import (
    all_reduce_sequence_grad,
    local_vocab_ids,
    reduce_from_tensor_parallel_region,
    scatter_sequence,
)
from gpt2dsl.distributed.process_groups import TensorParallelGroup
from gpt2dsl.kernels.dropout import Dropout
from gpt2dsl.kernels.mixed_precision import StraightThroughRound
from gpt2dsl.layout.params import WPE, WTE
from gpt2dsl.layout.precision import PrecisionPolicy
from gpt2dsl.model import dropout_masks


class Embedding(nn.Cell):
    """Sum of word and position embeddings; tensor parallel ranks shard the word table."""

    def __init__(
        self, weights: dict[str, Parameter], precision: PrecisionPolicy, shard: TensorParallelGroup
    ) -> None:
        super().__init__(auto_prefix=False)
        self.words = weights[WTE]
        self.positions = weights[WPE]
        self.gather = P.Gather()
        self.held = StraightThroughRound(precision)
        self.is_shared, self.leave = shard.mp > 1, reduce_from_tensor_parallel_region(shard)
        self.own_rows, self.beside = scatter_sequence(shard), all_reduce_sequence_grad(shard)
        self.count = self.words.shape[0]
        self.first = self.count * shard.index

    def sum(self, words: Tensor, inside: Tensor, positions: Tensor, places: Tensor) -> Tensor:
        """Add word and position rows: ``[b t, h], [b t], [positions, h], [b t] → [b t, h]``.

        ``inside``: 1 where a word is in this rank's shard of the table, else 0.
        """
        words = self.held(words)
        if self.is_shared:
            words = self.leave(words * inside.expand_dims(1))
        return words + self.held(self.gather(self.beside(positions), self.own_rows(places), 0))

    def construct(self, ids: Tensor, positions: Tensor) -> Tensor:
        """``[b, t], [b, t] → [b t, h]``."""
        place = inside = ids.reshape((-1,))
        if self.is_shared:
            place, inside = local_vocab_ids(place, self.first, self.count)
        words = self.gather(self.words, place, 0)
        return self.sum(words, inside, self.positions, positions.reshape((-1,)))


class TrainingEmbedding(nn.Cell):
    """An embedding of rows that were looked up before, with dropout: the first block's input."""

    def __init__(self, embedding: Embedding, probability: float) -> None:
        super().__init__(auto_prefix=False)
        self.embedding = embedding
        self.drops = probability > 0
        self.dropout = Dropout(dropout_masks.keep(probability))

    def construct(
        self, words: Tensor, inside: Tensor, positions: Tensor, places: Tensor, *kept: Tensor
    ) -> Tensor:
        """Apply ``Embedding.sum``, then dropout if ``kept`` has a mask."""
        x = self.embedding.sum(words, inside, positions, places)
        if kept and self.drops:
            x = self.dropout(x, kept[0])
        return x
