"""Sides of a comparison: each measured in a process of its own, on the Python that it needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
JUDGES = ROOT / ".judges"
"""What tests/mindformers/environment.sh makes: MindFormers 0.8.0 on Python 3.9."""


def missing(side: str) -> str:
    """Why a side can't run here, or ""."""
    if side == "mindformers" and not (JUDGES / "complete").exists():
        return "no .judges; tests/mindformers/environment.sh makes it"
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
        fresh = {"PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/inductor"}
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
