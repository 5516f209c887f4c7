"""Steps of a plan, in order, with inputs and outputs of each."""

from __future__ import annotations

import attrs

from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.inputs import weights_name


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


def steps_of(parts: Parts) -> tuple[PlanStep, ...]:
    """Return the steps of a recipe's task."""
    task = parts.task
    assert task is not None
    weights = weights_name(parts) or "new weights"
    data, held_out = getattr(task, "data", ""), getattr(task, "eval_data", "")
    if task.trains:
        texts = tuple(filter(None, (data, held_out)))
        steps = [PlanStep("tokenise", texts, ("tokens",))]
        if held_out:
            steps.append(PlanStep("evaluate", (weights, held_out), ("metrics.jsonl",)))
        steps.append(PlanStep("train", (weights, data), ("metrics.jsonl", "checkpoints")))
        if held_out:
            steps.append(PlanStep("evaluate", ("checkpoints", held_out), ("metrics.jsonl",)))
        return (*steps, PlanStep("report", ("metrics.jsonl",), ("report.html", "result.json")))
    if task.kind == "evaluate":
        return (
            PlanStep("tokenise", (data,), ("tokens",)),
            PlanStep("evaluate", (weights, data), ("result.json",)),
        )
    if task.kind == "serve":
        return (PlanStep(task.kind, (weights,)),)
    if task.kind in ("generate", "classify"):
        return (PlanStep(task.kind, (weights,), ("result.json",)),)
    return (PlanStep(task.kind, (getattr(task, "source", ""),), (getattr(task, "target", ""),)),)
