"""Figures of a training run's result, from its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from gpt2dsl.engine.held_out import Metrics

_RECENT = 20
"""Steps whose mean loss counts where no text is held out."""


def figures(metrics: Sequence[Metrics]) -> dict[str, Any]:
    """Return the fields of ``Result`` that the lines of metrics.jsonl determine."""
    evaluations = [line for line in metrics if "eval_loss" in line]
    losses = [line["loss"] for line in metrics if "loss" in line][-_RECENT:]
    speeds = [line["tokens_per_second"] for line in metrics if "tokens_per_second" in line]
    utilization = [line["mfu"] for line in metrics if "mfu" in line]
    first = evaluations[0] if evaluations and evaluations[0]["step"] == 0 else {}
    last = evaluations[-1] if evaluations else {}
    return {
        "skipped": sum(1 for line in metrics if "skipped" in line),
        "loss": last.get("eval_loss", sum(losses) / len(losses) if losses else None),
        "perplexity": last.get("eval_perplexity"),
        "loss_before": first.get("eval_loss"),
        "perplexity_before": first.get("eval_perplexity"),
        "tokens": int(last.get("eval_tokens", 0)),
        "tokens_per_second": median(speeds[1:] or speeds) if speeds else None,
        "mfu": median(utilization[1:] or utilization) if utilization else None,
    }
