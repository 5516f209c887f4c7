"""Charts of reports, as SVG text drawn by matplotlib in the colours of the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import attrs

Values = Sequence[float]

COLOURS = ("line", "other", "third", "fourth", "fifth", "sixth")
"""The page's colours for distinct lines; ``pale`` is for a line behind another one."""

STYLES = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))
"""matplotlib line styles that distinguish lines of the same colour."""

_DRAWN = {name: f"#01010{n}" for n, name in enumerate(("ink", "pale", *COLOURS), 1)}
"""CSS variable of the page → placeholder colour while drawing: dark mode changes the values."""

_INK = _DRAWN["ink"]


@attrs.frozen
class Curve:
    """A curve of a chart.

    Attributes:
        label: legend label; "" for none.
        x: x values.
        y: y values.
        colour: one of ``COLOURS``, or ``pale``.
        dots: whether to mark each value.
        style: one of ``STYLES``.
    """

    label: str
    x: Values
    y: Values
    colour: str = "line"
    dots: bool = False
    style: Any = "-"


def curves(
    lines: Sequence[Curve],
    x: str,
    y: str,
    *,
    height: float = 3.2,
    bottom: bool = False,
    marks: tuple[str, Values] = ("", ()),
    legend_below: bool = False,
) -> str:
    """Draw curves into one chart and return it as SVG.

    Args:
        lines: curves, from back to front.
        x: label of the x axis.
        y: label of the y axis.
        height: height in inches; the width is 5.4.
        bottom: whether the y axis starts at 0.
        marks: label and x values of thin vertical lines.
        legend_below: whether to put the legend below, one line per curve; else where it fits.
    """
    # Figure without pyplot: no global state, no display.
    from matplotlib.figure import Figure  # noqa: PLC0415  # only reports draw

    figure = Figure(figsize=(5.4, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.15, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.tick_params(colors=_INK)
    for line in lines:
        dots = "o" if line.dots or len(line.x) == 1 else ""  # a line of one point is invisible
        axes.plot(
            line.x, line.y, color=_DRAWN[line.colour], marker=dots, markersize=4,
            linewidth=0.9 if line.colour == "pale" else 1.6, label=line.label or None,
            linestyle=line.style,
        )  # fmt: skip
    name, places = marks
    for number, place in enumerate(places):
        label = None if number else name  # one legend entry for all
        axes.axvline(place, color=_INK, alpha=0.8, linewidth=0.9, linestyle="--", label=label)
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    if bottom:
        axes.set_ylim(bottom=0)
    if legend_below:
        figure.legend(
            frameon=False,
            labelcolor=_INK,
            loc="outside lower left",
            labelspacing=0.2,
            handlelength=3,
        )
    elif any(line.label for line in lines):
        axes.legend(frameon=False, labelcolor=_INK)
    return _svg(figure, f"{y} over {x}")


def smooth(values: Values, keep: float = 0.95) -> list[float]:
    """Return the two-sided exponential moving average, which does not lag behind its values.

    Each side is corrected for its initial bias (Kingma & Ba 2014); short runs use a faster decay.
    """
    keep = min(keep, 1 - 5 / (len(values) + 5))
    forth, back = _means(values, keep), _means(values[::-1], keep)[::-1]
    return [(forward + backward) / 2 for forward, backward in zip(forth, back, strict=True)]


def _means(values: Values, keep: float) -> list[float]:
    means = accumulate(values, lambda mean, value: keep * mean + (1 - keep) * value, initial=0.0)
    return [mean / (1 - keep**count) for count, mean in enumerate(means) if count]


def _svg(figure: Any, title: str) -> str:
    import matplotlib as mpl  # noqa: PLC0415  # only reports draw

    buffer = io.StringIO()
    # the salt makes ids unique across the charts of a page
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 12}):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Title": title}
        )
    text = buffer.getvalue()
    for name, drawn in _DRAWN.items():
        text = text.replace(drawn, f"var(--{name})")
    return text[text.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
