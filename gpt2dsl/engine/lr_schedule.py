"""Learning rate schedules, with the formulas of MindFormers r0.8 and transformers."""

from __future__ import annotations

import math

from gpt2dsl.parts import Schedule


def learning_rate(schedule: Schedule, peak: float, step: int, total: int) -> float:
    """Return the learning rate of a step.

    Args:
        schedule: the schedule.
        peak: the peak rate, reached after the warm-up.
        step: number of updates done, without skipped steps.
        total: number of steps; afterwards the rate stays at its final value.
    """
    warmup = warmup_steps(schedule, total)
    if step < warmup:
        return peak * step / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))  # progress after the warm-up
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
    """Return the number of warm-up steps, set as a count or as a fraction of all steps."""
    return round(schedule.warmup * total) if schedule.warmup < 1 else int(schedule.warmup)
