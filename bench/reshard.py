"""Resharding of the 1.5B size beside `cp --reflink=never`, all synced, in one run.

    make bench                                              6.2 GB of random weights
    .venv/bin/python bench/reshard.py --size 124m

Each way is a process of its own; its peak of resident memory is the kernel's count. The rate is of
the bytes that are written, which a copy of the same size writes too.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import attrs
from convert import make_safetensors, measured, side_by_side

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import param_specs
from gpt2dsl.parts.model import SIZES

HEADS = 16
"""In the place of 1.5B's 25, which only mp = 1 divides; no tensor has another size for it."""

LAYOUTS = ("mp=8", "mp=4,pp=2", "pp=8")


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="1.5b", choices=list(SIZES))
    parser.add_argument("--folder", default=None, help="where there is room for four copies")
    parser.add_argument("--layouts", nargs="+", default=LAYOUTS)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    geometry = attrs.evolve(SIZES[args.size], heads=HEADS)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        compare(Path(name), geometry, args.layouts, args.repeats)


def compare(folder: Path, geometry: GPT2Config, layouts: list[str], repeats: int) -> None:
    """There and back, each in turns with a copy."""
    whole, split = folder / "whole", folder / "split"
    make_safetensors(whole, geometry)
    size = 4 * sum(tensor.size for tensor in param_specs(geometry))
    print(f"{size / 1e9:.2f} GB of weights, medians of {repeats}")
    for layout in layouts:
        measured(reshard(whole, split, layout))
        for words, source, to in (
            (f"whole -> {layout}", whole, layout),
            (f"{layout} -> whole", split, "dp=1"),
        ):
            command = partial(reshard, source, folder / "target", to)
            side_by_side(words, command, (whole, folder), size, repeats)
        shutil.rmtree(split)


def reshard(source: Path, target: Path, layout: str) -> list[str]:
    """The command of one way."""
    command = [sys.executable, "-m", "gpt2dsl", "reshard", str(source), str(target)]
    return [*command, "--to", layout]


if __name__ == "__main__":
    main()
