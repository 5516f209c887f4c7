"""Every fault of a recipe, without planning it."""

from __future__ import annotations

from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan import checks, choose
from gpt2dsl.plan.batches import read_by
from gpt2dsl.plan.network import DeferredWeights, find_network


def faults(
    parts: Parts, promised: DeferredWeights | None = None, *, of_inputs: bool = True
) -> tuple[Fault, ...]:
    """Return every fault of a recipe as a whole and of its inputs; one doesn't hide another.

    Args:
        parts: the recipe's.
        promised: the weights, where an earlier stage of a chain makes them first.
        of_inputs: whether those of inputs count; a plan only shows them.
    """
    network = find_network(parts, promised=promised)
    found = (*checks.faults(parts, network.geometry), *network.faults)
    if not of_inputs:
        return found
    if not found:
        try:
            parts, _ = choose.resolved(parts, network.geometry)
        except SpecError as error:
            found = error.faults
    _, batches, read = read_by(parts, network)
    if batches and parts.train.steps is None:
        found = (*found, *checks.warmup(parts, batches.steps))
    return (*found, *(fault for one in read for fault in one.refusals))
