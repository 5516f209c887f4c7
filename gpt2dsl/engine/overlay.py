"""A page that compares the loss curves of several runs."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from string import ascii_uppercase

from gpt2dsl.engine import pictures
from gpt2dsl.engine.page import page, section, switch
from gpt2dsl.engine.pictures import COLOURS, STYLES, Curve

Metrics = Sequence[Mapping[str, float]]


def overlay(runs: Sequence[tuple[str, Metrics]], differences: Sequence[Sequence[str]]) -> str:
    """Return a page with the losses of several runs in one chart.

    Args:
        runs: name and metrics.jsonl lines of each run, called A, B, ... in ``differences``.
        differences: rows of a table; section rows name the columns.
    """
    short = _short([name for name, _ in runs])
    labels = [f"{letter}  {name}" for letter, name in zip(ascii_uppercase, short, strict=False)]
    training, held_out = [], []
    for number, (label, (_, metrics)) in enumerate(zip(labels, runs, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        style = STYLES[number // len(COLOURS) % len(STYLES)]
        steps = [line for line in metrics if "loss" in line]
        evaluations = [line for line in metrics if "eval_loss" in line]
        losses = pictures.smooth([line["loss"] for line in steps])
        training.append(Curve(label, [line["step"] for line in steps], losses, colour, style=style))
        if evaluations:
            at, values = zip(
                *((line["step"], line["eval_loss"]) for line in evaluations), strict=True
            )
            held_out.append(Curve(label, at, values, colour, dots=True, style=style))
    drawn = {"training, smoothed": _picture(training, "loss, nats")}
    if held_out:
        drawn["held out"] = _picture(held_out, "held-out loss, nats")
    body = [section("Loss", switch("loss", drawn)), section("What differs", _table(differences))]
    title = " and ".join(short) if len(short) == 2 else f"{len(short)} runs"
    return page(title, "\n".join(body))


def _picture(lines: Sequence[Curve], y: str) -> str:
    return pictures.curves(lines, "step", y, height=3.0 + 0.23 * len(lines), legend_below=True)


def _short(names: Sequence[str]) -> list[str]:
    """Return names without their common parent folders."""
    paths = [PurePath(name).parts for name in names]
    while len({path[0] for path in paths}) == 1 and all(len(path) > 1 for path in paths):
        paths = [path[1:] for path in paths]
    return [str(PurePath(*path)) for path in paths]


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in which rows without indentation start a section."""
    lines = []
    for label, *values in (tuple(map(html.escape, row)) for row in rows):
        cell = "td" if label.startswith(" ") else "th"
        cells = "".join(f"<{cell}>{value}</{cell}>" for value in (label.strip(), *values))
        lines.append(f"<tr>{cells}</tr>")
    return f'<div class="scroll"><table class="wide identity">{"".join(lines)}</table></div>'
