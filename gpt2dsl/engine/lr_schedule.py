"""The learning rate of each step, as MindFormers r0.8 and transformers define the shapes."""

from __future__ import annotations

import math

from gpt2dsl.parts import Schedule


def learning_rate(schedule: Schedule, peak: float, step: int, total: int) -> float:
    """Return the learning rate of a step.

    Args:
        schedule: its shape.
        peak: the highest rate, reached after the warm-up.
        step: updates that were done; steps that were skipped do not count.
        total: number of steps; from there on the rate stays what it is at the end.
    """
    warmup = warmup_steps(schedule, total)
    if step < warmup:
        return peak * step / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))  # of the way after the warm-up
    if schedule.kind == "constant":
        return peak
    if schedule.kind == "linear":
        return peak * (1 - share)
    if schedule.kind == "polynomial":
        return schedule.end + (peak - schedule.end) * (1 - share) ** schedule.power
    if schedule.kind == "cosine_restarts" and share < 1:
        share = share * schedule.cycles % 1
    return schedule.end + (peak - schedule.end) * 0.5 * (1 + math.cos(math.pi * share))


def warmup_steps(schedule: Schedule, total: int) -> int:
    """Steps of the warm-up, whether it is said in steps or as a fraction of all."""
    return round(schedule.warmup * total) if schedule.warmup < 1 else int(schedule.warmup)
