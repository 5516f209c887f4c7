"""The faults of a recipe, without planning it."""

from __future__ import annotations

from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan import checks, choose, resuming
from gpt2dsl.plan.batches import read_by
from gpt2dsl.plan.network import DeferredWeights, find_network


def faults(
    parts: Parts, promised: DeferredWeights | None = None, *, of_inputs: bool = True
) -> tuple[Fault, ...]:
    """Return all faults of a recipe as a whole and of its inputs, not just the first.

    Args:
        parts: the recipe's.
        promised: the weights, where an earlier stage of a chain is to make them.
        of_inputs: whether to include those of inputs, which a plan only shows.
    """
    network = find_network(parts, promised=promised)
    errors = (*checks.faults(parts, network.geometry), *network.faults)
    if not of_inputs:
        return errors
    if not errors:
        try:
            parts, _ = choose.resolved(parts, network.geometry)
        except SpecError as error:
            errors = error.faults
    network, batches, read = read_by(parts, network)
    if batches and parts.train.steps is None:
        errors = (*errors, *checks.warmup(parts, batches.steps))
    read = resuming.check(parts, network, batches, read)
    return (*errors, *(fault for item in read for fault in item.refusals))
