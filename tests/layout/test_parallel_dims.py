from __future__ import annotations

from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.layout.parallel_dims import ParallelDims, RankCoordinates

ranks = st.builds(ParallelDims, dp=st.integers(1, 6), mp=st.integers(1, 6), pp=st.integers(1, 6))


@given(ranks)
def test_every_rank_has_one_place_and_every_place_one_rank(ranks: ParallelDims) -> None:
    places = [ranks.coordinates(rank) for rank in range(ranks.count)]
    assert [ranks.rank(place) for place in places] == list(range(ranks.count))
    assert set(places) == {
        RankCoordinates(stage, replica, shard)
        for stage in range(ranks.pp)
        for replica in range(ranks.dp)
        for shard in range(ranks.mp)
    }


@given(ranks)
def test_groups_of_one_kind_part_the_ranks(ranks: ParallelDims) -> None:
    kinds: list[tuple[Callable[[int], tuple[int, ...]], int]] = [
        (ranks.tensor_parallel_ranks, ranks.mp),
        (ranks.data_parallel_ranks, ranks.dp),
    ]
    for group_of, size in kinds:
        groups = {group_of(rank) for rank in range(ranks.count)}
        assert sorted(joined(groups)) == list(range(ranks.count))
        assert all(len(group) == size for group in groups)
        assert all(rank in group_of(rank) for rank in range(ranks.count))


@given(ranks)
def test_groups_are_those_that_differ_in_one_thing_alone(ranks: ParallelDims) -> None:
    for rank in range(ranks.count):
        here = ranks.coordinates(rank)
        sharing = [ranks.coordinates(other) for other in ranks.tensor_parallel_ranks(rank)]
        replicas = [ranks.coordinates(other) for other in ranks.data_parallel_ranks(rank)]
        assert sharing == [
            RankCoordinates(here.stage, here.replica, shard) for shard in range(ranks.mp)
        ]
        assert replicas == [
            RankCoordinates(here.stage, replica, here.shard) for replica in range(ranks.dp)
        ]


@given(ranks)
def test_ranks_that_share_layers_are_neighbours_and_a_stage_is_one_piece(
    ranks: ParallelDims,
) -> None:
    for rank in range(ranks.count):
        first = rank - rank % ranks.mp
        assert ranks.tensor_parallel_ranks(rank) == tuple(range(first, first + ranks.mp))
    stages = [ranks.coordinates(rank).stage for rank in range(ranks.count)]
    assert stages == sorted(stages)


def joined(groups: Iterable[tuple[int, ...]]) -> list[int]:
    return [rank for group in groups for rank in group]
