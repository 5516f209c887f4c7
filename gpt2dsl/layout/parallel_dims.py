"""Sizes of the parallel dimensions, and coordinates of ranks in them.

Rank ``(stage * dp + copy) * mp + shard``: tensor parallel ranks are neighbours, as in MindSpore and
Megatron, because they communicate the most.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class RankCoordinates:
    """Coordinates of a rank.

    Attributes:
        stage: pipeline stage.
        copy: data parallel replica.
        shard: tensor parallel rank.
    """

    stage: int
    copy: int
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

    def place(self, rank: int) -> RankCoordinates:
        """Return the coordinates of a rank."""
        group, shard = divmod(rank, self.mp)
        stage, copy = divmod(group, self.dp)
        return RankCoordinates(stage, copy, shard)

    def rank(self, place: RankCoordinates) -> int:
        """Return the rank at coordinates."""
        return (place.stage * self.dp + place.copy) * self.mp + place.shard

    def sharing(self, rank: int) -> tuple[int, ...]:
        """Return the tensor parallel group of a rank, itself included."""
        coordinates = self.place(rank)
        return tuple(self.rank(attrs.evolve(coordinates, shard=i)) for i in range(self.mp))

    def stages(self, rank: int) -> tuple[int, ...]:
        """Return the pipeline group of a rank, itself included, in stage order."""
        coordinates = self.place(rank)
        return tuple(self.rank(attrs.evolve(coordinates, stage=i)) for i in range(self.pp))

    def copies(self, rank: int) -> tuple[int, ...]:
        """Return the data parallel group of a rank, itself included."""
        coordinates = self.place(rank)
        return tuple(self.rank(attrs.evolve(coordinates, copy=i)) for i in range(self.dp))
