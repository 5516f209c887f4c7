"""Conversions of the 1.5B size beside `cp --reflink=never`, all synced, in one run.

    make bench                                              6.2 GB of random weights
    .venv/bin/python bench/convert.py --size 124m

Each conversion is a process of its own; its peak of resident memory is the kernel's count.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import param_specs
from gpt2dsl.parts.model import SIZES
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.formats.config import to_config
from gpt2dsl.weights.initial import filled
from gpt2dsl.weights.location import CheckpointLocation
from gpt2dsl.weights.network_weights import Weights


@attrs.frozen
class Measured:
    """What one process took."""

    seconds: float
    peak_gb: float


def make_safetensors(folder: Path, geometry: GPT2Config) -> None:
    """Random weights as transformers has them."""
    folder.mkdir()
    nowhere = CheckpointLocation(path=folder, files=())
    empty = Weights(location=nowhere, format="", geometry=geometry, config={}, tensors={})
    huggingface.write_stored(folder, to_config(geometry), filled(empty, 0))


def make_bin(folder: Path, source: Path) -> None:
    """The same in PyTorch's format, in a process of its own: it needs the memory of all of it."""
    folder.mkdir()
    shutil.copyfile(source / "config.json", folder / "config.json")
    code = (
        "import sys, torch\nfrom safetensors.torch import load_file\n"
        "torch.save(load_file(sys.argv[1]), sys.argv[2])"
    )
    names = [str(source / "model.safetensors"), str(folder / "pytorch_model.bin")]
    subprocess.run([sys.executable, "-c", code, *names], check=True)


def measured(command: list[str]) -> Measured:
    """Runs a command, and syncs what it wrote."""
    os.sync()
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    os.sync()
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    return Measured(seconds, usage.ru_maxrss / 1e6)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="1.5b", choices=list(SIZES))
    parser.add_argument("--folder", default=None, help="where there is room for four copies")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        compare(Path(name), SIZES[args.size], args.repeats)


def compare(folder: Path, geometry: GPT2Config, repeats: int) -> None:
    """Each way, in turns with a copy."""
    safe, binary = folder / "safetensors", folder / "bin"
    make_safetensors(safe, geometry)
    make_bin(binary, safe)
    size = 4 * sum(tensor.size for tensor in param_specs(geometry))
    target = folder / "target"
    ours = [sys.executable, "-m", "gpt2dsl", "convert"]
    ways: dict[str, tuple[Callable[[Path], list[str]], Path]] = {
        "safetensors -> hf": (lambda source: [*ours, str(source), str(target)], safe),
        "safetensors -> mindformers": (
            lambda source: [*ours, str(source), f"{target}.ckpt", "--to", "mindformers"],
            safe,
        ),
        ".bin -> hf": (lambda source: [*ours, str(source), str(target)], binary),
        ".bin -> mindformers": (
            lambda source: [*ours, str(source), f"{target}.ckpt", "--to", "mindformers"],
            binary,
        ),
    }
    print(f"{size / 1e9:.2f} GB of weights, medians of {repeats}")
    for words, (command, source) in ways.items():
        side_by_side(words, partial(command, source), (source, folder), size, repeats)


def side_by_side(
    words: str,
    command: Callable[[], list[str]],
    places: tuple[Path, Path],
    size: int,
    repeats: int,
) -> None:
    """One way in turns with a copy of the weights; ``places``: these, and the working folder."""
    source, folder = places
    copies, found = [], []
    for _ in range(repeats):
        copies.append(copied(source, folder))
        found.append(measured(command()))
        clear(folder)
    copy = median(copies)
    taken, peak = median(one.seconds for one in found), max(one.peak_gb for one in found)
    mb = size / 1e6
    print(
        f"{words:<28} {mb / taken:>8,.0f} MB/s   cp {mb / copy:>8,.0f} MB/s   "
        f"ratio {copy / taken:.2f}   peak {peak:.2f} GB",
        flush=True,
    )


def copied(source: Path, folder: Path) -> float:
    """Seconds that a synced copy of the weights takes."""
    file = max(source.iterdir(), key=lambda path: path.stat().st_size)
    found = measured(["cp", "--reflink=never", str(file), str(folder / "copy")])
    clear(folder)
    return found.seconds


def clear(folder: Path) -> None:
    """Removes what was written last."""
    for path in folder.iterdir():
        if path.name == "copy" or path.name.startswith("target"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main()
