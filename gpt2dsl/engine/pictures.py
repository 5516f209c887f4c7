"""The pictures of a training report, as SVG text drawn by matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

Points = Sequence[tuple[int, float]]
"""Step and value."""


def loss_curve(training: Points, held_out: Points) -> str:
    """Loss per token over the steps, in training and on held-out text."""
    figure, axes = _figure()
    axes.plot(*_columns(training), color="#9bb8d3", linewidth=0.8, label="training batch")
    axes.plot(*_columns(_smooth(training)), color="#1f5f99", label="training, smoothed")
    if held_out:
        axes.plot(*_columns(held_out), "o-", color="#c0392b", label="held-out text")
        for step, loss in (held_out[0], held_out[-1]):
            axes.annotate(
                f"perplexity {math.exp(min(loss, 700)):,.1f}",
                (step, loss),
                textcoords="offset points",
                xytext=(8, 8) if step == held_out[0][0] else (-8, 12),
                ha="left" if step == held_out[0][0] else "right",
            )
    axes.set(xlabel="step", ylabel="loss per token, nats")
    axes.legend(frameon=False)
    return _svg(figure, "loss over the steps")


def curve(points: Points, label: str) -> str:
    """One value over the steps."""
    figure, axes = _figure(height=2.2)
    axes.plot(*_columns(points), color="#1f5f99", linewidth=1.0)
    axes.set(xlabel="step", ylabel=label)
    axes.set_ylim(bottom=0)
    return _svg(figure, f"{label} over the steps")


def _figure(height: float = 3.4) -> tuple[Any, Any]:
    # Figure without pyplot: no global state, no display.
    from matplotlib.figure import Figure  # noqa: PLC0415  # only reports draw

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any, title: str) -> str:
    import matplotlib as mpl  # noqa: PLC0415  # only reports draw

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gpt2dsl"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _columns(points: Points) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _smooth(points: Points, keep: float = 0.95) -> Points:
    """Exponential mean over the steps, freed of its bias towards the start (Kingma & Ba 2014)."""
    smooth, mean = [], 0.0
    for count, (step, value) in enumerate(points, start=1):
        mean = keep * mean + (1 - keep) * value
        smooth.append((step, mean / (1 - keep**count)))
    return smooth
