"""Training steps here, in transformers on torch, and in MindFormers, side by side in one run.

    make bench                                          124M at batch 2 x 256
    .venv/bin/python bench/train.py --sides gpt2dsl eager --rounds 1

    .venv/bin/python bench/train.py --lora 8            adapters on c_attn; in torch those of PEFT
    .venv/bin/python bench/train.py --dropout 0.1       on all sides, MindFormers left out

Each side of each round is a process of its own, one after the other, without caches of compiled
code. All read the same weights from files and see the same batches in the same order: float32, no
dropout where none is said, gradients clipped to a norm of 1, AdamW. The first step is counted from
the start of the process, imports and compilation included. The peak is that of the process alone,
without the compilers that torch.compile starts.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sides import Found, able, in_turns, parser, publish, to_mindformers

LR, BETA1, BETA2, EPS, DECAY, CLIP = 1e-4, 0.9, 0.95, 1e-8, 0.1, 1.0
BATCHES = 2

Ids = NDArray[np.int32]
Step = Callable[[Ids], float]
"""A training step on ids ``[b, t + 1]``, of which each is the label of the one before it. It gives
the loss before the update, and returns when the update is done."""


def ours(args: argparse.Namespace) -> Step:
    """This project's step."""
    import attrs
    import mindspore as ms

    from gpt2dsl.engine.language_model import network_of
    from gpt2dsl.layout.lora import lora_specs
    from gpt2dsl.model.dropout_masks import masks
    from gpt2dsl.model.forward import MicroBatch
    from gpt2dsl.parts import LoRA, Optim
    from gpt2dsl.parts.model import SIZES
    from gpt2dsl.training.step import TrainStep
    from gpt2dsl.weights import reading
    from gpt2dsl.weights.files.lazy_tensor import Arrays
    from gpt2dsl.weights.infer_config import Overrides
    from gpt2dsl.weights.initial import filled, initial_adapters

    geometry = attrs.evolve(SIZES[args.size], dropout=args.dropout)
    lora = LoRA(r=args.lora, alpha=2 * args.lora) if args.lora else None
    values = Arrays(filled(reading.read(str(args.folder), Overrides()), 0))
    added = lora_specs(geometry, lora.settings()) if lora else ()
    network = network_of(geometry, values, "cpu", adapters=added)
    network.load_adapters(dict(Arrays(initial_adapters(network.adapters, 0))))
    optim = Optim(beta1=BETA1, beta2=BETA2, eps=EPS, weight_decay=DECAY)
    trainer = TrainStep(network, optim.settings(), clip=CLIP)

    def step(ids: Ids) -> float:
        inputs, labels = np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:])
        rows, time = range(len(inputs)), inputs.shape[1]
        kept = tuple(masks(geometry, 0, trainer.steps, rows, time))
        loss = trainer.step([MicroBatch(inputs, labels, kept)], LR)[0]
        ms.runtime.synchronize()
        return loss

    return step


def on_torch(args: argparse.Namespace, *, compiled: bool) -> Step:
    """Transformers on torch as it comes, AdamW fused; or its network and loss compiled as one."""
    import torch
    from transformers import GPT2LMHeadModel

    drops = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), args.dropout)
    model = GPT2LMHeadModel.from_pretrained(args.folder, dtype=torch.float32, **drops).train()
    if args.lora:
        from peft import LoraConfig, get_peft_model

        words = {"r": args.lora, "lora_alpha": 2 * args.lora, "target_modules": ["c_attn"]}
        model = get_peft_model(model, LoraConfig(fan_in_fan_out=True, **words))
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(BETA1, BETA2), eps=EPS, fused=True)

    def loss_of(ids: Any, labels: Any) -> Any:
        logits = model(ids, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    forward = torch.compile(loss_of) if compiled else loss_of

    def step(ids: Ids) -> float:
        tensor = torch.from_numpy(ids).long()
        optimizer.zero_grad()
        loss = forward(tensor[:, :-1].contiguous(), tensor[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        return float(loss.item())

    return step


def mindformers(args: argparse.Namespace) -> Step:
    """MindFormers' step, on the Python that it needs."""
    from train_mindformers import side

    return side(args)


SIDES: dict[str, Callable[[argparse.Namespace], Step]] = {
    "gpt2dsl": ours, "eager": partial(on_torch, compiled=False),
    "compile": partial(on_torch, compiled=True), "mindformers": mindformers,
}  # fmt: skip


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Times, peak memory and losses of one side, in this process."""
    batches = np.load(args.folder / "ids.npy")
    step = SIDES[args.side](args)
    losses, times = [], []
    for i in range(args.warmup + args.steps):
        before = time.monotonic() if i else args.started
        losses.append(step(batches[i % BATCHES]))
        times.append(time.monotonic() - before)
    # Of this program alone: what getrusage gives begins with the peak of the one that started it.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9
    return {"first": times[0], "times": times[args.warmup :], "peak": peak, "losses": losses}


def prepare(folder: Path, args: argparse.Namespace, sides: Sequence[str]) -> None:
    """Weights and ids that every side reads."""
    from gpt2dsl.parts.model import SIZES
    from gpt2dsl.weights.files.lazy_tensor import Arrays
    from gpt2dsl.weights.formats import huggingface
    from gpt2dsl.weights.initial import initial

    geometry = SIZES[args.size]
    huggingface.write(folder, geometry, dict(Arrays(initial(geometry, 0))))
    # Without the last id, which MindFormers takes for padding.
    shape, random = (BATCHES, args.rows, args.tokens + 1), np.random.default_rng(0)
    np.save(folder / "ids.npy", random.integers(0, geometry.vocab - 1, shape, "i4"))
    if "mindformers" in sides:
        to_mindformers(folder)


def report(found: Found, tokens: int, told: dict[str, Any]) -> None:
    """A line a side, then ratios and losses."""
    figures = {}
    for side, rounds in found.items():
        times = [t for one in rounds for t in one["times"]]
        speed, first = tokens / median(times), median(one["first"] for one in rounds)
        peak = max(one["peak"] for one in rounds)
        figures[side] = (speed, first, peak)
        publish("train", {"side": side, "times": times, "first": first, "peak": peak, **told})
        span = f"{tokens / max(times):.1f} to {tokens / min(times):.1f}"
        words = f"first step {first:5.1f} s   peak {peak:5.2f} GB"
        print(f"{side:<12} {speed:6.1f} tokens/s ({span})   {words}")
    judge = "eager" if "eager" in found else next(iter(found), "")
    print(f"losses, from the same weights: first, last, largest difference from {judge}'s")
    for side, rounds in found.items():
        losses = np.array(rounds[0]["losses"])
        off = np.abs(losses - found[judge][0]["losses"]).max()
        print(f"{side:<12} {losses[0]:.6f} {losses[-1]:.6f} {off:.1e}")
    for side in [side for side in figures if side != "gpt2dsl" and "gpt2dsl" in figures]:
        speed, first, peak = np.divide(figures["gpt2dsl"], figures[side])
        words = f"tokens/s {speed:.2f}   first step {first:.2f}   peak {peak:.2f}"
        print(f"gpt2dsl / {side:<12} {words}")


def main() -> None:
    """Measure and print a table."""
    options = parser(list(SIDES))
    options.add_argument("--rows", type=int, default=2)
    options.add_argument("--tokens", type=int, default=256)
    options.add_argument("--lora", type=int, default=0, help="the rank of adapters on c_attn")
    options.add_argument("--dropout", type=float, default=0.0)
    options.add_argument("--steps", type=int, default=8, help="that are timed, in each round")
    options.add_argument("--warmup", type=int, default=3, help="steps before them, the first too")
    args = options.parse_args()
    if args.side:
        print(json.dumps(measured(args)))
        return
    plain = not args.lora and not args.dropout
    sides = able([side for side in args.sides if plain or side != "mindformers"])
    told = {"tokens": args.rows * args.tokens, "lora": args.lora, "dropout": args.dropout}
    what = f"{args.size}, {args.rows} x {args.tokens}, float32"
    what += f", LoRA r {args.lora}" if args.lora else ""
    what += f", dropout {args.dropout}" if args.dropout else ""
    what += f"; {os.cpu_count()} cores, load"
    print(f"{what} {os.getloadavg()[0]:.1f} at the start", flush=True)
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), args, sides)
        found = in_turns(Path(__file__), Path(name), args.rounds, sides)
    report(found, args.rows * args.tokens, told)
    if len(found) < len(sides):
        raise SystemExit("a side failed")


if __name__ == "__main__":
    main()
