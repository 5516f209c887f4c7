"""Training steps here and in transformers on torch, side by side in one run.

    make bench                                          124M at batch 2 x 256
    .venv/bin/python bench/train.py --rows 4 --tokens 512 --dropout 0.1

Each side runs in a process of its own, in turns, so that neither warms or starves the other.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median
from typing import Any

import numpy as np

SIDES = ("gpt2dsl", "torch")


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Times and memory of one side, in this process."""
    started = time.perf_counter()
    step = ours(args) if args.side == "gpt2dsl" else theirs(args)
    losses = [step()]
    first = time.perf_counter() - started
    times = []
    for _ in range(args.steps):
        before = time.perf_counter()
        losses.append(step())
        times.append(time.perf_counter() - before)
    return {
        "first_step_s": first,
        "step_s": times[args.warmup :],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "losses": losses,
    }


def ours(args: argparse.Namespace) -> Any:
    """A function that does one step here, batches and dropout masks included."""
    from gpt2dsl import Model
    from gpt2dsl.model import device
    from gpt2dsl.model.dropout import masks
    from gpt2dsl.model.init import initial
    from gpt2dsl.model.network import GPT2
    from gpt2dsl.model.training import TrainStep

    device.use("cpu")
    geometry = Model(size=args.size, dropout=args.dropout).geometry()
    network = GPT2(geometry)
    network.load(initial(geometry, 0))
    trainer = TrainStep(network, clip=1.0, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1)
    ids, labels = batch(args, geometry.vocab)

    def step() -> float:
        rows = range(args.rows)
        kept = masks(geometry, 0, trainer.steps, rows, args.tokens)
        return trainer.step(ids, labels, 1e-4, kept)[0]

    return step


def theirs(args: argparse.Namespace) -> Any:
    """The same step in transformers on torch: eager, AdamW fused."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from gpt2dsl import Model
    from gpt2dsl.model.init import initial

    geometry = Model(size=args.size).geometry()
    model = GPT2LMHeadModel(
        GPT2Config(
            n_layer=geometry.layers, n_head=geometry.heads, n_embd=geometry.hidden,
            attn_pdrop=args.dropout, embd_pdrop=args.dropout, resid_pdrop=args.dropout,
        )
    ).train()  # fmt: skip
    weights = {name: torch.from_numpy(array) for name, array in initial(geometry, 0).items()}
    model.load_state_dict(weights, strict=False)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
    ids, labels = (torch.from_numpy(array).long() for array in batch(args, geometry.vocab))

    def step() -> float:
        optimizer.zero_grad()
        logits = model(ids).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.item())

    return step


def batch(args: argparse.Namespace, vocab: int) -> Any:
    """The same ids and labels for both sides."""
    random = np.random.default_rng(0)
    return random.integers(0, vocab, (2, args.rows, args.tokens)).astype(np.int32)


def in_turns(args: argparse.Namespace, words: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Each side's measurements, alternating."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(args.rounds):
        for side in SIDES:
            line = [sys.executable, __file__, "--side", side, *words]
            done = subprocess.run(line, check=True, capture_output=True, text=True)
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=SIDES, help="measure one side in this process, as JSON")
    parser.add_argument("--size", default="124m")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2, help="steps that are left out")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measured(args)))
        return
    found = in_turns(args, sys.argv[1:])
    tokens = args.rows * args.tokens
    print(f"{args.size}, {args.rows} x {args.tokens}, dropout {args.dropout}, float32")
    speeds = {}
    for side, rounds in found.items():
        times = [t for one in rounds for t in one["step_s"]]
        speeds[side] = tokens / median(times)
        print(
            f"{side:8}  {speeds[side]:7.1f} tokens/s"
            f"  ({tokens / max(times):.1f} to {tokens / min(times):.1f})"
            f"  first step {min(one['first_step_s'] for one in rounds):5.1f} s"
            f"  peak {max(one['peak_gb'] for one in rounds):4.1f} GB"
        )
    ends = [rounds[0]["losses"][-1] for rounds in found.values()]
    print(
        f"ratio {speeds['gpt2dsl'] / speeds['torch']:.2f}; last losses {ends[0]:.5f} {ends[1]:.5f}"
    )


if __name__ == "__main__":
    main()
