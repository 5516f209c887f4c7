"""What a rank holds, reads and writes at the start, at a save, at a resume and in an evaluation.

    .venv/bin/python bench/scale.py
    .venv/bin/python bench/scale.py --layers 2

102M parameters train on four ranks of this machine, mp 2 x pp 2, with checkpoints that are
synchronous and asynchronous; then they resume, and evaluate 4 rows at once and 64 in 16 parts.
Memory is resident memory, bytes are those of /proc/self/io, bytes between ranks are counted at
AllReduce, of which CPU's collectives are made. A line has a figure and its bound (issue 28).
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt2dsl import Recipe

MP, PP = 2, 2
EVALUATES = "rows"
"""Beginning of the names of runs that evaluate only."""

TICK = 0.002
"""Seconds between two looks at resident memory."""

Figures = dict[str, float]


def recipe(folder: Path, layers: int, **train: Any) -> Recipe:
    """A training of new weights, with held-out text."""
    from gpt2dsl import Data, Model, Parallel, Runtime, Task, Train

    micro = train.pop("micro_batches", PP)
    data = str(folder / "text.txt")
    return (
        Model(size="124m", layers=layers, dropout=0.0)
        | Data(tokenizer="gpt2")
        | Parallel(mp=MP, pp=PP, micro_batches=micro)
        | Train(**({"batch_size": 4, "seq_length": 32, "steps": 6, "evaluate_every": 0} | train))
        | Task.pretrain(data=data, eval_data=data)
        | Runtime(output=str(folder / "runs"))
    )


class Peak:
    """The highest resident memory of this process while the context lasts."""

    def __enter__(self) -> Peak:
        self.before = self.peak = resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(TICK):
            self.peak = max(self.peak, resident())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.peak = max(self.peak, resident())

    @property
    def rise(self) -> int:
        """Bytes above what there was before."""
        return self.peak - self.before


def resident() -> int:
    """Bytes of resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bytes_read() -> int:
    """Bytes that this process has asked to read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def count_sent() -> list[int]:
    """Return a list that gets the bytes of each AllReduce from now on."""
    from mindspore.ops.operations import AllReduce

    sent: list[int] = []
    original = AllReduce.__call__

    def counted(self: Any, tensor: Any) -> Any:
        sent.append(tensor.size * 4)
        return original(self, tensor)

    AllReduce.__call__ = counted
    return sent


def rank(file: str) -> None:
    """One rank of a training, step by step."""
    from gpt2dsl.engine.train import TrainingRun

    job = pickle.loads(Path(file).read_bytes())  # noqa: S301  # written below
    with Peak() as start:
        read = bytes_read()
        run = TrainingRun(job)
        run._begin()  # noqa: SLF001  # the engine's own steps, one at a time
        run.step.optimizer.states()
        read = bytes_read() - read
    parameters = run.step.network.by_name.values()
    own = sum(4 * tensor.size for tensor in (*parameters, *run.step.optimizer.states()))
    found: Figures = {
        "own": own,
        "start": start.rise,
        "read": read,
        "resumed": run.step.steps,
    }
    with run.saves:
        if job.name.startswith(EVALUATES):
            found |= evaluated(run)
        elif not run.step.steps:
            found |= trained(run)
    run.micro_batches.close()
    print(f"found {json.dumps(found)}", flush=True)


def trained(run: Any) -> Figures:
    """Steps, and the save of one of them."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        run._one()  # noqa: SLF001  # as above
        times.append(time.perf_counter() - started)
    sent = count_sent()
    with Peak() as save:
        started = time.perf_counter()
        run.saves.begin(None)
        between, begun = sum(sent), time.perf_counter() - started
        if run.parts.train.async_save:
            run._one()  # noqa: SLF001  # as above
        next_step = time.perf_counter() - started
        run.saves.finish()
        over = time.perf_counter() - started
    held = next_step - times[-1] if run.parts.train.async_save else begun
    return {"save": save.rise, "sent": between, "copy": begun, "held": held, "saved": over}


def evaluated(run: Any) -> Figures:
    """An evaluation's peak."""
    with Peak() as peak:
        run.held_out.metrics(run.step.steps)
    return {"evaluation": peak.peak}


def measured(plan: Any, logs: Path) -> list[Figures]:
    """What each rank of a planned training found."""
    from gpt2dsl.cluster.supervisor import Node, Timeouts, free_port, supervise

    job = plan.prepared()._job(True, "", (), None)  # noqa: SLF001  # as above
    logs.mkdir()
    file = logs / "job.pickle"
    file.write_bytes(pickle.dumps(job))
    command = [sys.executable, __file__, "--rank", str(file)]
    node = Node(ranks=MP * PP, local=MP * PP, port=free_port())
    supervise(command, node, logs, Timeouts(collective=600, start=600))
    texts = [(logs / f"rank_{i}.log").read_text() for i in range(node.ranks)]
    return [json.loads(text.rpartition("found ")[2].splitlines()[0]) for text in texts]


def copied(checkpoint: Path, target: Path) -> float:
    """Seconds in which a checkpoint is copied, synced."""
    os.sync()
    started = time.perf_counter()
    shutil.copytree(checkpoint, target)
    os.sync()
    seconds = time.perf_counter() - started
    shutil.rmtree(target)
    return seconds


def line(what: str, found: float, bound: float, unit: str = "MB") -> None:
    """Print a figure beside its bound."""
    verdict = "holds" if found <= bound else "FAILS"
    print(f"{what:<58} {found:>9.2f} {unit:<3} bound {bound:>9.2f}  {verdict}", flush=True)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank:
        rank(args.rank)
        return
    with tempfile.TemporaryDirectory(prefix="gpt2dsl-scale-") as name:
        folder = Path(name)
        (folder / "text.txt").write_text("some words of text to train on " * 6_000)
        report(folder, args.layers)


def report(folder: Path, layers: int) -> None:
    """Train, resume and evaluate in a folder."""
    plans = {
        mode: recipe(folder, layers, async_save=mode == "asynchronous").named(mode).plan()
        for mode in ("synchronous", "asynchronous")
    }
    print(plans["synchronous"])
    found = {mode: measured(plan, folder / mode) for mode, plan in plans.items()}
    both, alone = found["synchronous"], found["asynchronous"]
    table = 4 * 50304 * 768
    line("start: rise above own part, the worst rank", worst(both, "start", "own"), 2 * table / 1e6)
    line("save: rise", worst(both, "save"), 100)
    line("asynchronous save: rise above own part", worst(alone, "save", "own"), 100)
    line("save: bytes between ranks", worst(both, "sent"), 1)
    checkpoint = next(Path(plans["synchronous"].directory).glob("checkpoints/step-*"))
    seconds = [copied(checkpoint, folder / "copy") for _ in range(3)]
    save = max(rank["saved"] for rank in both)
    line("save: seconds", save, 3 * sorted(seconds)[1], "s")
    line("asynchronous save: a step is held up", max(r["held"] for r in alone), save / 4, "s")
    before = written(Path(plans["synchronous"].directory))
    again = measured(plans["synchronous"], folder / "again")
    files = [
        (checkpoint / f"rank_{i}" / "model.safetensors").stat().st_size for i in range(MP * PP)
    ]
    read = max(rank["read"] / size for rank, size in zip(again, files, strict=True))
    line("resume: bytes read, of the rank's file", read, 2.3, "x")
    line(
        "resume: files written", len(written(Path(plans["synchronous"].directory)) - before), 0, ""
    )
    few, many = (
        max(rank["evaluation"] for rank in evaluations(folder, layers, rows, parts))
        for rows, parts in ((4, 1), (64, 16))
    )
    line("evaluation: peak of 64 rows in 16 parts, of that of 4", many / few, 1.1, "x")


def worst(ranks: list[Figures], what: str, less: str = "") -> float:
    """Megabytes of the rank that needs the most."""
    return max(rank[what] - (rank[less] if less else 0) for rank in ranks) / 1e6


def evaluations(folder: Path, layers: int, rows: int, parts: int) -> list[Figures]:
    """Evaluate before the first step of a training."""
    train = {"batch_size": rows, "micro_batches": parts}
    plan = recipe(folder, layers, **train).named(f"{EVALUATES}{rows}").plan()
    return measured(plan, folder / f"{EVALUATES}{rows}")


def written(run: Path) -> set[tuple[str, int]]:
    """Files of checkpoints, with the time of their last change."""
    return {(str(path), path.stat().st_mtime_ns) for path in run.glob("checkpoints/**/*")}


if __name__ == "__main__":
    os.environ.setdefault("GLOG_v", "3")
    main()
