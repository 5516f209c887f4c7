"""Tokens a second of MindSpore Lite, onnxruntime and MindSpore, in one run.

    make bench                                              124M, random weights
    .venv/bin/python bench/lite.py --tokens 32 --repeats 3

One text, greedy, the prompt left out of the time. Where MindSpore Lite is not set up
(`gpt2dsl lite setup`) its row is left out, saying so.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpt2dsl.engine.text_model import TextModel

os.environ.setdefault("GLOG_v", "3")

PROMPT = "An increasing sequence: one, two, three,"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="124m")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), args.size, args.length, args.tokens, args.repeats)


def compare(folder: Path, size: str, length: int, tokens: int, repeats: int) -> None:
    """Each in turns with the others."""
    from gpt2dsl import Model, Recipe, Task, load
    from gpt2dsl.data.tokenizer import Tokenizer
    from gpt2dsl.engine.exported import ExportedModel
    from gpt2dsl.lite import opening
    from gpt2dsl.weights.files.lazy_tensor import Arrays
    from gpt2dsl.weights.formats import huggingface
    from gpt2dsl.weights.initial import initial

    weights = folder / "weights"
    weights.mkdir()
    geometry = Model(size=size).geometry(vocab=50257, labels=0)
    huggingface.write(weights, geometry, dict(Arrays(initial(geometry, 0))), Tokenizer.load("gpt2"))
    ways: dict[str, Callable[[int], object]] = {}
    for form in ("onnx", "ms"):
        if why := opening.missing(form):
            print(f"{form} is left out: {why}")
            continue
        started = time.perf_counter()
        target = folder / form
        task = Task.export(source=str(weights), target=str(target), format=form, seq_length=length)
        Recipe(task).plan().run()
        seconds = time.perf_counter() - started
        model = ExportedModel.load(target)
        name = model.runtime.name
        print(f"{name:<24} exported and verified in {seconds:.0f} s", flush=True)
        ways[name] = partial(text, model)
    ways["MindSpore"] = partial(text, load(str(weights)))
    for way in ways.values():
        way(tokens)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            found[name].append(timed(way, tokens) - timed(way, 1))
    base = median(found["MindSpore"])
    for name, seconds_each in found.items():
        taken = median(seconds_each)
        print(f"{name:<24} {(tokens - 1) / taken:>7.1f} tokens/s   {base / taken:.2f} of MindSpore")


def text(model: TextModel, tokens: int) -> object:
    """One text of so many tokens."""
    return model.generate([PROMPT], max_new_tokens=tokens)


def timed(way: Callable[[int], object], tokens: int) -> float:
    """Seconds of a text of so many tokens."""
    started = time.perf_counter()
    way(tokens)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
