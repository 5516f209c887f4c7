"""Every benchmark that has a bar, one after another, with this machine's ceilings before and after.

    make bench

Prints each benchmark's own tables, then one line a bar; all figures go to ``runs/bench.jsonl``, a
line of JSON each, those of a run under one time. docs/performance.md has their history.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from generate import bandwidth
from sides import ROOT, publish

SCRIPTS = (
    ("train.py",),
    ("train.py", "--rows", "4", "--tokens", "512", "--sides", "gpt2dsl", "eager"),
    ("train.py", "--dropout", "0.1", "--sides", "gpt2dsl", "eager"),
    ("train.py", "--lora", "8", "--sides", "gpt2dsl", "eager"),
    ("forward.py",),
    ("generate.py",),
    ("start.py",),
)
OTHERS = (
    ("serve.py",), ("growth.py",), ("recompute.py",), ("convert.py",), ("reshard.py",),
    ("lite.py",), ("data.py",),
)  # fmt: skip
Figures = list[dict[str, Any]]


def main() -> None:
    """Run them all."""
    file = ROOT / "runs" / "bench.jsonl"
    file.parent.mkdir(exist_ok=True)
    before = len(file.read_text().splitlines()) if file.exists() else 0
    os.environ["GPT2DSL_BENCH"] = str(file)
    publish("run", {"time": time.strftime("%Y-%m-%d %H:%M:%S"), "cores": os.cpu_count()})
    scripts = SCRIPTS if "--bars" in sys.argv else (*SCRIPTS, *OTHERS)
    for words in scripts:
        ceilings()
        print(f"\n== {' '.join(words)}", flush=True)
        command = [sys.executable, str(Path(__file__).parent / words[0]), *words[1:]]
        if subprocess.run(command, check=False).returncode:
            print(f"{words[0]} failed", flush=True)
    ceilings()
    lines = file.read_text().splitlines()[before:]
    print("\n== bars")
    for line in bars([json.loads(line) for line in lines]):
        print(line)


def ceilings() -> None:
    """What this machine reaches now: a large product, and reading memory, on two threads."""
    a = np.ones((2048, 2048), np.float32)
    products = []
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        products.append(2 * 2048**3 / (time.perf_counter() - started))
    read = bandwidth()
    publish("ceilings", {"flops": median(products), "bytes": read})
    print(f"\nproducts {median(products) / 1e9:.0f} GFLOP/s, reads {read / 1e9:.0f} GB/s")


def bars(found: Figures) -> Iterator[str]:
    """A line a bar: what was reached, in how many times what."""
    for tokens, lora, dropout, bar in (
        (512, 0, 0.0, 2.0), (2048, 0, 0.0, 1.8), (512, 0, 0.1, 2.0), (512, 8, 0.0, 2.0),
    ):  # fmt: skip
        of = [
            one
            for one in found
            if one["bench"] == "train"
            and (one["tokens"], one["lora"], one["dropout"]) == (tokens, lora, dropout)
        ]
        what = f"training, {tokens} tokens, LoRA r {lora}, dropout {dropout}"
        yield from _ratios(what, of, bar)
        yield from _peaks(what, of)
    forward = [one for one in found if one["bench"] == "forward"]
    yield from _ratios("forward", forward, 1.5, onnxruntime=1.0)
    for batch, bar in (("1", 2.0), ("8", 2.5)):
        of = [one for one in found if one["bench"] == "generate" and one["batch"] == batch]
        yield from _ratios(f"decoding, batch {batch}", of, bar)
    firsts = {one["layers"] * one["hidden"]: one for one in found if one["bench"] == "first step"}
    for one in firsts.values():
        shape = f"{one['layers']} layers of {one['hidden']}"
        yield f"first step, {shape}: {one['cold']:.1f} s cold (bar 8), {one['warm']:.1f} warm (4)"
    if {12 * 256, 48 * 256} <= set(firsts):
        ratio = firsts[48 * 256]["cold"] / firsts[12 * 256]["cold"]
        yield f"first step, 48 layers of 256 over 12: {ratio:.1f} (bar 2)"
    served = {one["streams"]: one["speed"] for one in found if _is_ours(one)}
    if {1, 64} <= served.keys():
        yield f"serving, 64 streams over one: {served[64] / served[1]:.1f} (bar 4)"
    for one in found:
        if one["bench"] == "start":
            yield f"gpt2dsl {one['command']}: {median(one['seconds']):.2f} s (bar 0.3)"


def _is_ours(one: dict[str, Any]) -> bool:
    return (one["bench"], one.get("side")) == ("serve", "gpt2dsl")


def _ratios(what: str, of: Figures, bar: float, **others: float) -> Iterator[str]:
    """How many times as fast as each peer; ``others``: bars of some of them."""
    times = {one["side"]: one["times"] for one in of}
    ours = times.pop("gpt2dsl", None)
    for side, theirs in times.items() if ours else ():
        ratio = median(theirs) / median(ours)
        span = f"{min(theirs) / max(ours):.2f} to {max(theirs) / min(ours):.2f}"
        yield f"{what}: {ratio:.2f} times {side} ({span}, bar {others.get(side, bar)})"


def _peaks(what: str, of: Figures) -> Iterator[str]:
    peaks = {one["side"]: one["peak"] for one in of}
    if {"gpt2dsl", "eager"} <= set(peaks):
        yield f"{what}: peak {peaks['gpt2dsl']:.2f} GB, torch {peaks['eager']:.2f} (bar: its)"


if __name__ == "__main__":
    main()
