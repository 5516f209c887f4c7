"""Which rank does what: its pipeline stage, its data-parallel copy, its share of each layer.

Rank ``(stage * dp + copy) * mp + shard``: ranks that share layers are neighbours, as in MindSpore
and Megatron, because they exchange the most.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class RankCoordinates:
    """Where a rank stands.

    Attributes:
        stage: of the pipeline.
        copy: which rows of a batch it computes.
        shard: which part of each layer it holds.
    """

    stage: int
    copy: int
    shard: int


@attrs.frozen
class ParallelDims:
    """A layout of ranks.

    Attributes:
        dp: data-parallel copies.
        mp: ranks that share each layer.
        pp: pipeline stages.
    """

    dp: int = 1
    mp: int = 1
    pp: int = 1

    def __str__(self) -> str:
        return "1 rank" if self.count == 1 else f"dp {self.dp} x mp {self.mp} x pp {self.pp}"

    @property
    def count(self) -> int:
        """How many there are."""
        return self.dp * self.mp * self.pp

    def place(self, rank: int) -> RankCoordinates:
        """Return where a rank stands."""
        rest, shard = divmod(rank, self.mp)
        stage, copy = divmod(rest, self.dp)
        return RankCoordinates(stage, copy, shard)

    def rank(self, place: RankCoordinates) -> int:
        """Return the rank that stands there."""
        return (place.stage * self.dp + place.copy) * self.mp + place.shard

    def sharing(self, rank: int) -> tuple[int, ...]:
        """Return the ranks that hold the other parts of this one's layers, itself included."""
        here = self.place(rank)
        return tuple(self.rank(attrs.evolve(here, shard=i)) for i in range(self.mp))

    def stages(self, rank: int) -> tuple[int, ...]:
        """The ranks that hold the other stages of this one's rows and parts, in their order."""
        here = self.place(rank)
        return tuple(self.rank(attrs.evolve(here, stage=i)) for i in range(self.pp))

    def copies(self, rank: int) -> tuple[int, ...]:
        """Return the ranks that hold the same parameters, itself included."""
        here = self.place(rank)
        return tuple(self.rank(attrs.evolve(here, copy=i)) for i in range(self.dp))
