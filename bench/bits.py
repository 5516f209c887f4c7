"""Digests of what small runs of every task give, to see that a change of the code changes no bit.

    .venv/bin/python bench/bits.py > before.json
    .venv/bin/python bench/bits.py --against before.json

Both runs must be on one machine: processors differ in the last bits. Each run is a process of
``gpt2dsl``, so that nothing but the users' contract is called.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent

SPEC = """
[model]
size = "nano"
layers = 4
heads = 4
hidden = 48
positions = 64
dropout = 0.1
[data]
tokenizer = "train"
vocab = 320
[train]
batch_size = 8
seq_length = 32
steps = 6
evaluate_every = 3
[optim]
lr = 3e-3
[generation]
max_new_tokens = 8
[task]
kind = "pretrain"
data = "text.txt"
eval_data = "text.txt"
"""

CLASSES = """
[model]
weights = "base"
[classifier]
labels = ["even", "odd"]
[data]
format = "csv"
[train]
batch_size = 4
seq_length = 32
steps = 6
[task]
kind = "finetune"
data = "classes.csv"
eval_data = "classes.csv"
"""

ON_BASE = """
[model]
weights = "base"
[lora]
r = 4
dropout = 0.1
[train]
batch_size = 4
seq_length = 32
steps = 6
[task]
kind = "finetune"
data = "text.txt"
eval_data = "text.txt"
"""

TRAININGS: dict[str, tuple[str, Sequence[str]]] = {
    "pretrain": (SPEC, ()),
    "micro-batches": (SPEC, ["parallel.micro_batches=2"]),
    "dp": (SPEC, ["parallel.dp=2"]),
    "mp": (SPEC, ["parallel.mp=2"]),
    "mp-sequence": (SPEC, ["parallel.mp=2", "parallel.sequence_parallel=true"]),
    "pp": (SPEC, ["parallel.pp=2", "parallel.micro_batches=2"]),
    "optimizer-shard": (SPEC, ["parallel.dp=2", "parallel.optimizer_shard=true"]),
    "recompute-full": (SPEC, ["parallel.recompute=full"]),
    "recompute-selective": (SPEC, ["parallel.recompute=selective"]),
    "float16": (SPEC, ["precision.compute=float16"]),
    "lora": (ON_BASE, ()),
    "lora-mp": (ON_BASE, ["parallel.mp=2"]),
    "classes": (CLASSES, ()),
    "classes-dp": (CLASSES, ["parallel.dp=2"]),
}
"""Name of a training → its spec, and what differs from it."""

COMMANDS: dict[str, Sequence[str]] = {
    "greedy": ("generate", "base", "--prompt", "the cat", "--max-new-tokens", "20"),
    "sampled": (
        "generate", "base", "--prompt", "the cat", "--max-new-tokens", "20", "--do-sample",
        "--seed", "3",
    ),
    "beams": ("generate", "base", "--prompt", "the cat", "--max-new-tokens", "20", "--beams", "3"),
    "onnx": ("export", "base", "onnx", "--format", "onnx"),
    "ckpt": ("convert", "base", "base.ckpt", "--to", "mindformers"),
    "merged": ("convert", "runs/lora", "merged", "--merge"),
}  # fmt: skip
"""Name of a command → its words; a path that it writes is the third."""


def write_inputs(folder: Path) -> None:
    """Write a text and a table with classes."""
    words = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "how", "old", "dogs", "ran")
    lines = [" ".join(words[(i * k + k) % 11] for k in range(2, 10)) for i in range(200)]
    (folder / "text.txt").write_text("\n".join(lines) + "\n")
    rows = "".join(f"{line},{i % 2}\n" for i, line in enumerate(lines[:40]))
    (folder / "classes.csv").write_text("text,label\n" + rows)


def called(folder: Path, *words: str) -> str:
    """Run a command of this checkout, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "gpt2dsl", *words], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr}")
    return done.stdout


def digest(*contents: bytes) -> str:
    """Return a short digest of contents."""
    return hashlib.sha256(b"\0".join(contents)).hexdigest()[:16]


def of_run(run: Path) -> str:
    """Return the digest of a run's losses and of its weights and moments."""
    metrics = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    losses = [{key: line[key] for key in sorted(line) if "loss" in key} for line in metrics]
    tensors = sorted(run.glob("checkpoints/*/*.safetensors"))
    return digest(json.dumps(losses).encode(), *(path.read_bytes() for path in tensors))


def of_target(target: Path) -> str:
    """Return the digest of the weights and graphs that a command has written."""
    endings = {".safetensors", ".onnx", ".ckpt"}
    files = [target] if target.is_file() else sorted(target.rglob("*"))
    return digest(*(path.read_bytes() for path in files if path.suffix in endings))


def digests(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each run and the digest of what it gives."""
    write_inputs(folder)
    for name, (spec, changes) in TRAININGS.items():
        if names and name not in names and name != "pretrain":
            continue
        (folder / f"{name}.toml").write_text(spec)
        called(folder, "run", f"{name}.toml", *(word for at in changes for word in ("--set", at)))
        (run,) = folder.glob(f"runs/{name}-????????")
        run.rename(run.with_name(name))
        if name == "pretrain":
            (folder / "base").symlink_to(run.with_name(name))
        yield name, of_run(run.with_name(name))
    for name, words in COMMANDS.items():
        if names and name not in names:
            continue
        printed = called(folder, *words)
        target = folder / words[2]
        yield name, of_target(target) if target.exists() else digest(printed.encode())


def main() -> None:
    """Print the digests, or what differs from others."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--against", type=Path, help="digests of the code before")
    options.add_argument("--only", nargs="*", default=[], help="names of runs")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        here = dict(digests(Path(name), args.only))
    if args.against is None:
        print(json.dumps(here, indent=1))
        return
    before = json.loads(args.against.read_text())
    differ = [name for name in here if before.get(name) != here[name]]
    print("\n".join(f"{name} differs" for name in differ) or f"{len(here)} runs are the same")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
