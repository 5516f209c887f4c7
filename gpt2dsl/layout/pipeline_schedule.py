"""Pipeline schedule 1F1B (Narayanan et al. 2021, PipeDream-flush).

All stages are simulated together, tick by tick; after each tick its transfers are appended to both
ends, in stage order. Every rank thus follows the same global order of transfers, restricted to its
own: there is no circular wait, and each pair of ranks communicates in one order, which is all that
MindSpore's CPU collectives tell messages apart by.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

FORWARD, BACKWARD, SEND, RECEIVE = "forward", "backward", "send", "receive"


@attrs.frozen
class PipelineAction:
    """Action of a pipeline stage.

    Attributes:
        kind: forward, backward, send or receive.
        micro: index of the micro-batch.
        peer: the other stage of a transfer, else -1. Activations go to the next stage, gradients to
            the previous one.
    """

    kind: str
    micro: int
    peer: int = -1


def schedule(pp: int, micro_batches: int) -> tuple[tuple[PipelineAction, ...], ...]:
    """Return the actions of every stage.

    The last stage has no forward actions: its backward action includes forward pass and loss. The
    backward action of any other stage recomputes its forward pass.
    """
    waiting = [_compute(stage, pp, micro_batches) for stage in range(pp)]
    acts: list[list[PipelineAction]] = [[] for _ in range(pp)]
    arrived = {(FORWARD, 0, micro) for micro in range(micro_batches)}
    while any(waiting):
        done = [stage for stage in range(pp) if _can(waiting[stage], stage, pp, arrived)]
        assert done, "the schedule is stuck"
        running = {stage: waiting[stage].pop(0) for stage in done}
        for stage, act in running.items():
            acts[stage].append(act)
        for stage, act in running.items():
            peer = stage + 1 if act.kind == FORWARD else stage - 1
            if 0 <= peer < pp:
                acts[stage].append(PipelineAction(SEND, act.micro, peer))
                acts[peer].append(PipelineAction(RECEIVE, act.micro, stage))
                arrived.add((act.kind, peer, act.micro))
    return tuple(map(tuple, acts))


def _compute(stage: int, pp: int, micro_batches: int) -> list[PipelineAction]:
    """Return a stage's compute actions: warm-up forwards, then one forward, one backward."""
    backwards = [PipelineAction(BACKWARD, micro) for micro in range(micro_batches)]
    if stage == pp - 1:
        return backwards
    forwards = [PipelineAction(FORWARD, micro) for micro in range(micro_batches)]
    ahead = min(pp - 1 - stage, micro_batches)
    actions = forwards[:ahead]
    for micro in range(micro_batches):
        actions += forwards[ahead + micro : ahead + micro + 1]
        actions.append(backwards[micro])
    return actions


def _can(
    waiting: Sequence[PipelineAction], stage: int, pp: int, arrived: set[tuple[str, int, int]]
) -> bool:
    """Return whether the input of a stage's next action has arrived."""
    if not waiting:
        return False
    act = waiting[0]
    needs = FORWARD if stage == pp - 1 else act.kind
    return (needs, stage, act.micro) in arrived
