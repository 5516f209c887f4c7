"""What a user waits for before anything runs: commands that look, and the first training step.

    .venv/bin/python bench/start.py

Commands are whole processes, the median of several. A first step is counted from the start of its
process, imports, new weights and compilation included: with an empty cache of graphs, with the one
that the run before left, and in torch. 48 layers stand beside 12 of the same width, which shows how
the wait grows with the layers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from sides import ROOT, publish

COMMANDS = (
    ("--help",),
    ("list",),
    ("check", "specs/gpt2-52b-pretrain.toml"),
    ("plan", "specs/gpt2-124m-pretrain.toml"),
    ("plan", "specs/gpt2-52b-pretrain.toml"),
)
OURS = """
import json, sys, time
import numpy as np
started = float(sys.argv[1])
layers, hidden, heads, tokens = map(int, sys.argv[2:])
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.backend import device
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.initial import initial
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.training.step import TrainStep
from gpt2dsl.parts import Optim
device.use("cpu")
geometry = GPT2Config(
    layers=layers, heads=heads, hidden=hidden, positions=1024,
    vocab=50257 if hidden > 256 else 5000, dropout=0.0,
)
network = GPT2(geometry)
network.load(dict(Arrays(initial(geometry, 0))))
step = TrainStep(network, Optim().settings())
ids = np.zeros((2, tokens), np.int32)
step.step([MicroBatch(ids, ids)], 1e-4)
print(json.dumps(time.time() - started))
"""
TORCH = """
import json, sys, time
started = float(sys.argv[1])
layers, hidden, heads, tokens = map(int, sys.argv[2:])
import torch
from transformers import GPT2Config, GPT2LMHeadModel
off = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
vocab = 50257 if hidden > 256 else 5000
model = GPT2LMHeadModel(
    GPT2Config(n_layer=layers, n_embd=hidden, n_head=heads, vocab_size=vocab, **off)
).train()
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
ids = torch.zeros((2, tokens), dtype=torch.long)
model(ids, labels=ids).loss.backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
optimizer.step()
print(json.dumps(time.time() - started))
"""


def main() -> None:
    """Print both tables."""
    options = argparse.ArgumentParser()
    options.add_argument("--repeats", type=int, default=5)
    args = options.parse_args()
    for command in COMMANDS:
        times = [_command(command) for _ in range(args.repeats)]
        print(f"gpt2dsl {' '.join(command):<40} {median(times):.2f} s", flush=True)
        publish("start", {"command": " ".join(command), "seconds": times})
    for layers, hidden, heads in ((12, 768, 12), (12, 256, 4), (48, 256, 4)):
        with tempfile.TemporaryDirectory() as cache:
            shape = (layers, hidden, heads, 256)
            cold, warm = (_first(OURS, shape, cache) for _ in range(2))
            torch = _first(TORCH, shape, cache)
        words = f"{layers} layers of {hidden}: first step {cold:.1f} s, graphs on disk {warm:.1f} s"
        print(f"{words}, torch {torch:.1f} s", flush=True)
        figures = {"layers": layers, "hidden": hidden, "cold": cold, "warm": warm, "torch": torch}
        publish("first step", figures)


def _command(words: tuple[str, ...]) -> float:
    before = time.perf_counter()
    line = [sys.executable, "-m", "gpt2dsl", *words]
    subprocess.run(line, check=False, capture_output=True, cwd=ROOT)  # data may be absent
    return time.perf_counter() - before


def _first(program: str, shape: tuple[int, ...], cache: str) -> float:
    """Seconds from the start of a process to the end of its first step."""
    env = os.environ | {"GPT2DSL_CACHE": cache, "PYTHONPATH": str(ROOT), "GLOG_v": "3"}
    line = [sys.executable, "-c", program, str(time.time()), *map(str, shape)]
    done = subprocess.run(
        line, check=True, capture_output=True, text=True, env=env, cwd=Path(cache)
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
