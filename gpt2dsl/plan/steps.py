"""Steps of a plan, in order, with inputs and outputs of each."""

from __future__ import annotations

import attrs


@attrs.frozen
class PlanStep:
    """A step of a plan, carried out by an engine.

    Attributes:
        kind: tokenise, train, evaluate, or the task's own kind.
        reads: names of inputs and of outputs of earlier steps.
        writes: files in the directory of the run.
    """

    kind: str
    reads: tuple[str, ...]
    writes: tuple[str, ...] = ()
