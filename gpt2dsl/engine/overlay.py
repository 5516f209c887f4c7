"""Several runs over each other, on one page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from gpt2dsl.engine import pictures
from gpt2dsl.engine.page import page, section, switch
from gpt2dsl.engine.pictures import COLOURS, Line

Metrics = Sequence[Mapping[str, float]]


def overlay(runs: Mapping[str, Metrics], differences: Sequence[Sequence[str]]) -> str:
    """Return a page with the losses of runs in one picture.

    Args:
        runs: name of each → the lines of its metrics.jsonl.
        differences: rows of a table; the first has the columns' names.
    """
    training, held_out = [], []
    for number, (name, metrics) in enumerate(runs.items()):
        colour = COLOURS[number % len(COLOURS)]
        steps = [line for line in metrics if "loss" in line]
        told = [line for line in metrics if "eval_loss" in line]
        losses = pictures.smooth([line["loss"] for line in steps])
        training.append(Line(name, [line["step"] for line in steps], losses, colour))
        where = [line["step"] for line in told]
        held_out.append(Line(name, where, [one["eval_loss"] for one in told], colour, dots=True))
    drawn = {"training, smoothed": pictures.curves(training, "step", "loss, nats")}
    if any(line.x for line in held_out):
        drawn["held out"] = pictures.curves(held_out, "step", "held-out loss, nats")
    body = [section("Loss", switch("loss", drawn)), section("What differs", _table(differences))]
    return page(" and ".join(runs), "\n".join(body))


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = (tuple(map(html.escape, row)) for row in rows)
    lines = [f"<tr><th>{'</th><th>'.join(head)}</th></tr>"]
    lines += [f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rest]
    return f'<div class="scroll"><table class="identity">{"".join(lines)}</table></div>'
