"""Sizes of the parallel dimensions, and coordinates of ranks in them.

Rank ``(stage * dp + replica) * mp + shard``: tensor parallel ranks are neighbours, as in
MindSpore and Megatron, because they communicate the most.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class RankCoordinates:
    """Coordinates of a rank.

    Attributes:
        stage: pipeline stage.
        replica: data parallel replica.
        shard: tensor parallel rank.
    """

    stage: int
    replica: int
    shard: int


@attrs.frozen
class ParallelDims:
    """Sizes of the parallel dimensions.

    Attributes:
        dp: number of data parallel replicas.
        mp: number of tensor parallel ranks.
        pp: number of pipeline stages.
    """

    dp: int = 1
    mp: int = 1
    pp: int = 1

    def __str__(self) -> str:
        return "1 rank" if self.count == 1 else f"dp {self.dp} x mp {self.mp} x pp {self.pp}"

    @property
    def count(self) -> int:
        """Total number of ranks."""
        return self.dp * self.mp * self.pp

    def coordinates(self, rank: int) -> RankCoordinates:
        """Return the coordinates of a rank."""
        rest, shard = divmod(rank, self.mp)
        stage, replica = divmod(rest, self.dp)
        return RankCoordinates(stage, replica, shard)

    def rank(self, at: RankCoordinates) -> int:
        """Return the rank at coordinates."""
        return (at.stage * self.dp + at.replica) * self.mp + at.shard

    def tensor_parallel_ranks(self, rank: int) -> tuple[int, ...]:
        """Return the tensor parallel group of a rank, itself included."""
        here = self.coordinates(rank)
        return tuple(self.rank(attrs.evolve(here, shard=i)) for i in range(self.mp))

    def pipeline_ranks(self, rank: int) -> tuple[int, ...]:
        """Return the pipeline group of a rank, itself included, in stage order."""
        here = self.coordinates(rank)
        return tuple(self.rank(attrs.evolve(here, stage=i)) for i in range(self.pp))

    def data_parallel_ranks(self, rank: int) -> tuple[int, ...]:
        """Return the data parallel group of a rank, itself included."""
        here = self.coordinates(rank)
        return tuple(self.rank(attrs.evolve(here, replica=i)) for i in range(self.dp))
