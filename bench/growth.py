"""How speed and memory of training grow with rows, layers and processes.

    .venv/bin/python bench/growth.py
    .venv/bin/python bench/growth.py --plot docs/growth.svg

GPT-2 124M, float32, no dropout; each case trains in processes of its own. Speed is that of the
median step after the first, memory the largest peak of a rank.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import median
from typing import Any

import attrs
import matplotlib as mpl
from matplotlib.figure import Figure
from memory import Case, measured
from sides import publish

SERIES = {
    "tokens in each of 2 rows": [
        (tokens, Case(rows=2, tokens=tokens)) for tokens in (64, 128, 256, 512, 1024)
    ],
    "rows of 256 tokens": [(rows, Case(rows=rows)) for rows in (1, 2, 4, 8)],
    "layers, 2 x 256": [(layers, Case(rows=2, layers=layers)) for layers in (2, 6, 12, 24)],
    "data-parallel ranks, 4 x 256": [(n, Case(dp=n)) for n in (1, 2, 4)],
    "tensor-parallel ranks, 4 x 256": [(n, Case(mp=n)) for n in (1, 2, 4)],
    "pipeline stages, 4 x 256": [(n, Case(pp=n, micro_batches=n)) for n in (1, 2, 4)],
}
STEPS = 6
COLUMNS = 3
Point = tuple[int, float, float]
"""What grows, tokens/s, GB."""


def main() -> None:
    """Print a table, and draw it where a file is named."""
    options = argparse.ArgumentParser()
    options.add_argument("--plot", type=Path, help="an SVG file")
    options.add_argument("--series", nargs="+", default=list(SERIES), choices=list(SERIES))
    args = options.parse_args()
    found = {name: [_point(name, *one) for one in SERIES[name]] for name in args.series}
    if args.plot:
        _draw(found, args.plot)


def _point(name: str, value: int, case: Case) -> Point:
    ranks = measured(attrs.evolve(case, steps=STEPS))
    seconds = median(
        max(times) for times in zip(*(rank["times"][1:] for rank in ranks), strict=True)
    )
    speed, peak = case.rows * case.tokens / seconds, max(rank["peak"] for rank in ranks) / 1e9
    print(f"{name:<32} {value:>5}  {speed:7.1f} tokens/s  {peak:5.2f} GB a process", flush=True)
    publish("growth", {"series": name, "value": value, "tokens_per_second": speed, "peak": peak})
    return value, speed, peak


def _draw(found: dict[str, list[Point]], file: Path) -> None:
    """Speed above, memory below, for each of what grows; three beside each other."""
    columns = min(COLUMNS, len(found))
    bands = -(-len(found) // columns)
    figure = Figure(figsize=(3 * columns, 4 * bands), layout="constrained")
    grid: Any = figure.subplots(2 * bands, columns, squeeze=False)
    for place, (name, points) in enumerate(found.items()):
        values, speeds, peaks = zip(*points, strict=True)
        band, column = divmod(place, columns)
        above, below = grid[2 * band][column], grid[2 * band + 1][column]
        for axes, heights in ((above, speeds), (below, peaks)):
            axes.plot(values, heights, "o-", color="#1f5f99")
            axes.set_ylim(bottom=0)
            axes.set_xticks(values)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        above.set_title(name, fontsize=10)
        above.set_ylabel("tokens/s")
        below.set_ylabel("peak, GB a process")
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gpt2dsl"}):
        figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    os.environ.setdefault("GLOG_v", "3")
    main()
