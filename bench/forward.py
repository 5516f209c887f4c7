"""A forward pass here, in transformers on torch, and in onnxruntime, side by side in one run.

    .venv/bin/python bench/forward.py                   124M, one row of 512 tokens, all logits

Each side of each round is a process of its own. All read the same weights and ids, in float32. The
limit is what matrix products allow: 2 x 123.5 million parameters x tokens, and the attention's,
over the rate that a large product reaches in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sides import able, in_turns, parser, publish

Ids = NDArray[np.int32]
Forward = Callable[[Ids], NDArray[np.float32]]


def ours(args: argparse.Namespace) -> Forward:
    """This project's logits."""
    import gpt2dsl

    return gpt2dsl.load(str(args.folder)).logits


def on_torch(args: argparse.Namespace) -> Forward:
    """Transformers on torch as it comes."""
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(args.folder, dtype=torch.float32).eval()

    def forward(ids: Ids) -> NDArray[np.float32]:
        with torch.no_grad():
            found: NDArray[np.float32] = model(torch.from_numpy(ids).long()).logits.numpy()
        return found

    return forward


def on_onnx(args: argparse.Namespace) -> Forward:
    """The exported graph of all logits in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(args.folder / "onnx" / "model.onnx"))

    def forward(ids: Ids) -> NDArray[np.float32]:
        mask = np.ones(ids.shape, np.int64)
        feeds = {
            "input_ids": ids.astype(np.int64),
            "attention_mask": mask,
            "position_ids": mask.cumsum(1) - 1,
        }
        found: NDArray[np.float32] = session.run(None, feeds)[0]
        return found

    return forward


SIDES: dict[str, Callable[[argparse.Namespace], Forward]] = {
    "gpt2dsl": ours,
    "eager": on_torch,
    "onnxruntime": on_onnx,
}


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of calls of one side, in this process."""
    forward = SIDES[args.side](args)
    ids = np.load(args.folder / "ids.npy")
    times = []
    for _ in range(args.calls + 2):
        before = time.perf_counter()
        logits = forward(ids)
        times.append(time.perf_counter() - before)
    return {"times": times[2:], "logits": logits.reshape(-1)[:: 50257 * 64].tolist()}


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """Weights, ids and graphs that the sides read."""
    from gpt2dsl import Recipe, Task
    from gpt2dsl.parts.model import SIZES
    from gpt2dsl.weights.files.lazy_tensor import Arrays
    from gpt2dsl.weights.formats import huggingface
    from gpt2dsl.weights.initial import initial

    geometry = SIZES[args.size]
    huggingface.write(folder, geometry, dict(Arrays(initial(geometry, 0))))
    ids = np.random.default_rng(0).integers(0, geometry.vocab, (1, args.tokens), "i4")
    np.save(folder / "ids.npy", ids)
    if "onnxruntime" in args.sides:
        task = Task.export(
            source=str(folder), target=str(folder / "onnx"), format="onnx",
            seq_length=args.tokens, cache=False,
        )  # fmt: skip
        Recipe(task).plan().run()


def main() -> None:
    """Measure and print a table."""
    options = parser(list(SIDES))
    options.add_argument("--tokens", type=int, default=512)
    options.add_argument("--calls", type=int, default=8)
    args = options.parse_args()
    if args.side:
        print(json.dumps(measured(args)))
        return
    sides = able(args.sides)
    print(f"{args.size}, 1 x {args.tokens}, float32; {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), args)
        found = in_turns(Path(__file__), Path(name), args.rounds, sides)
    base = None
    for side, rounds in found.items():
        times = [t for one in rounds for t in one["times"]]
        base = base or median(times)
        off = np.abs(np.subtract(rounds[0]["logits"], found["gpt2dsl"][0]["logits"])).max()
        span = f"{min(times) * 1e3:.0f} to {max(times) * 1e3:.0f}"
        words = f"{median(times) / base:.2f} of gpt2dsl   logits {off:.1e} off"
        print(f"{side:<12} {median(times) * 1e3:6.0f} ms ({span})   {words}")
        publish("forward", {"side": side, "tokens": args.tokens, "times": times})


if __name__ == "__main__":
    main()
