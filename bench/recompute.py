"""What recomputing saves and costs: steps of GPT-2 124M, each way in a process of its own.

.venv/bin/python bench/recompute.py --rows 2 --tokens 512
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

WAYS = ("none", "selective", "full")


def measured(way: str, rows: int, tokens: int, steps: int) -> dict[str, float]:
    """Seconds of a step, the first left out, and peak of resident memory in GB."""
    import numpy as np

    from gpt2dsl.backend import device
    from gpt2dsl.model.forward import MicroBatch
    from gpt2dsl.model.gpt2 import GPT2
    from gpt2dsl.parts import Model, Optim
    from gpt2dsl.training.step import TrainStep
    from gpt2dsl.weights.files.lazy_tensor import Arrays
    from gpt2dsl.weights.initial import initial

    device.use("cpu")
    geometry = Model(size="124m", dropout=0.0).geometry(vocab=50257, labels=0)
    network = GPT2(geometry, recompute=way)
    network.load(dict(Arrays(initial(geometry, 0))))
    step = TrainStep(network, Optim().settings())
    ids = np.random.default_rng(0).integers(0, 50257, (rows, tokens)).astype(np.int32)
    times = []
    for _ in range(1 + steps):
        started = time.perf_counter()
        loss, _ = step.step([MicroBatch(ids, ids)], 1e-4)
        times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": float(np.median(times[1:])), "peak": peak, "loss": loss}


def main() -> None:
    """Prints a line a way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measured(args.way, args.rows, args.tokens, args.steps)))
        return
    print(f"GPT-2 124M, {args.rows} x {args.tokens}, float32")
    first: dict[str, float] = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, *sys.argv[1:]]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(said.splitlines()[-1])
        first = first or found
        more = found["seconds"] / first["seconds"] - 1
        less = first["peak"] - found["peak"]
        print(
            f"{way:<10} {found['seconds']:6.2f} s a step ({more:+.0%})   "
            f"peak {found['peak']:5.2f} GB ({less:5.2f} GB less)   loss {found['loss']:.6f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
