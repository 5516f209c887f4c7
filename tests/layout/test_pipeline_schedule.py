from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.layout.pipeline_schedule import (
    BACKWARD,
    FORWARD,
    RECEIVE,
    SEND,
    PipelineAction,
    schedule,
)

sizes = st.tuples(st.integers(2, 9), st.integers(1, 20))


@given(sizes)
def test_every_stage_computes_each_micro_batch_once_each_way_and_forward_first(
    size: tuple[int, int],
) -> None:
    pp, micro_batches = size
    for stage, acts in enumerate(schedule(pp, micro_batches)):
        forward = [act.micro for act in acts if act.kind == FORWARD]
        backward = [act.micro for act in acts if act.kind == BACKWARD]
        assert forward == ([] if stage == pp - 1 else list(range(micro_batches)))
        assert backward == list(range(micro_batches))
        places = {(act.kind, act.micro): i for i, act in enumerate(acts) if act.peer < 0}
        assert all(places[FORWARD, micro] < places[BACKWARD, micro] for micro in forward)


@given(sizes)
def test_ranks_that_meet_at_each_transfer_never_wait_for_one_another_in_a_circle(
    size: tuple[int, int],
) -> None:
    """Each transfer is a meeting of two: played so, all acts are done, in one order for a pair."""
    left = [list(acts) for acts in schedule(*size)]
    while any(left):
        before = sum(map(len, left))
        for stage, acts in enumerate(left):
            while acts and acts[0].peer < 0:
                acts.pop(0)
            if acts and meets(acts[0], stage, left[acts[0].peer]):
                left[acts[0].peer].pop(0)
                acts.pop(0)
        assert sum(map(len, left)) < before


def meets(act: PipelineAction, stage: int, other: list[PipelineAction]) -> bool:
    """Whether the other end is at the same transfer."""
    kind = RECEIVE if act.kind == SEND else SEND
    return bool(other) and other[0] == PipelineAction(kind, act.micro, stage)


@given(sizes)
def test_what_a_stage_computes_with_has_arrived_and_what_it_sends_is_computed(
    size: tuple[int, int],
) -> None:
    pp, micro_batches = size
    for stage, acts in enumerate(schedule(pp, micro_batches)):
        seen: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for act in acts:
            if act.kind == RECEIVE:
                seen["has"].add((FORWARD if act.peer < stage else BACKWARD, act.micro))
            elif act.kind == SEND:
                assert (FORWARD if act.peer > stage else BACKWARD, act.micro) in seen["done"]
            else:
                needed = FORWARD if stage == pp - 1 else act.kind
                first = needed == FORWARD and stage == 0
                assert first or (needed, act.micro) in seen["has"]
                seen["done"].add((act.kind, act.micro))


@given(sizes)
def test_a_stage_holds_at_most_as_many_micro_batches_as_there_are_stages_from_it_on(
    size: tuple[int, int],
) -> None:
    pp, micro_batches = size
    for stage, acts in enumerate(schedule(pp, micro_batches)):
        held = most = 0
        for act in acts:
            held += (act.kind == FORWARD) - (act.kind == BACKWARD)
            most = max(most, held)
        assert most <= min(micro_batches, pp - stage)
