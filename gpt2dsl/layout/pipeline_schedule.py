"""What each pipeline stage does, in which order: 1F1B (Narayanan et al. 2021, PipeDream-flush).

All stages are simulated together, tick by tick, and after each tick its transfers are appended to
both of their ends, in the order of the stages. So every rank follows one and the same order of
meetings, restricted to its own: none waits in a circle, and each pair of ranks exchanges in one
order, by which alone MindSpore's CPU collectives tell messages apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

FORWARD, BACKWARD, SEND, RECEIVE = "forward", "backward", "send", "receive"


@attrs.frozen
class PipelineAction:
    """One thing that a stage does.

    Attributes:
        kind: forward, backward, send or receive.
        micro: the micro-batch.
        peer: of a transfer, the other stage; -1 otherwise. Activations go to the next stage,
            gradients to the one before.
    """

    kind: str
    micro: int
    peer: int = -1


def schedule(pp: int, micro_batches: int) -> tuple[tuple[PipelineAction, ...], ...]:
    """Return the acts of every stage.

    The last stage has no forward of its own: its backward computes the loss on the way. The
    backward of any other stage computes its forward again.
    """
    waiting = [_compute(stage, pp, micro_batches) for stage in range(pp)]
    acts: list[list[PipelineAction]] = [[] for _ in range(pp)]
    arrived = {(FORWARD, 0, micro) for micro in range(micro_batches)}
    while any(waiting):
        done = [stage for stage in range(pp) if _can(waiting[stage], stage, pp, arrived)]
        assert done, "the schedule is stuck"
        now = {stage: waiting[stage].pop(0) for stage in done}
        for stage, act in now.items():
            acts[stage].append(act)
        for stage, act in now.items():
            peer = stage + 1 if act.kind == FORWARD else stage - 1
            if 0 <= peer < pp:
                acts[stage].append(PipelineAction(SEND, act.micro, peer))
                acts[peer].append(PipelineAction(RECEIVE, act.micro, stage))
                arrived.add((act.kind, peer, act.micro))
    return tuple(map(tuple, acts))


def _compute(stage: int, pp: int, micro_batches: int) -> list[PipelineAction]:
    """Forwards and backwards of a stage: some forwards ahead, then one of each in turns."""
    backwards = [PipelineAction(BACKWARD, micro) for micro in range(micro_batches)]
    if stage == pp - 1:
        return backwards
    forwards = [PipelineAction(FORWARD, micro) for micro in range(micro_batches)]
    ahead = min(pp - 1 - stage, micro_batches)
    found = forwards[:ahead]
    for micro in range(micro_batches):
        found += forwards[ahead + micro : ahead + micro + 1]
        found.append(backwards[micro])
    return found


def _can(
    waiting: Sequence[PipelineAction], stage: int, pp: int, arrived: set[tuple[str, int, int]]
) -> bool:
    """Return whether what the next act of a stage needs has arrived."""
    if not waiting:
        return False
    act = waiting[0]
    needs = FORWARD if stage == pp - 1 else act.kind
    return (needs, stage, act.micro) in arrived
