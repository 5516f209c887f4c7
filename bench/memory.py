"""What a plan says of a rank's memory beside what its processes take, layout by layout.

    .venv/bin/python bench/memory.py
    .venv/bin/python bench/memory.py --size 124m --rows 4 --tokens 256 --layouts 1,1,1 2,1,1

Each layout trains three steps, with ranks as processes of their own, once with the size and once
with a network so small that what is left is the empty process. Compared is the rank that takes the
most: its peak of resident memory less that of the empty process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from gpt2dsl import Recipe

LAYOUTS = ("1,1,1", "2,1,1", "1,2,1", "1,1,2")


@attrs.frozen
class Case:
    """What is trained, and how. Layers and hidden width are the size's where they are 0."""

    size: str = "124m"
    rows: int = 4
    tokens: int = 256
    dp: int = 1
    mp: int = 1
    pp: int = 1
    micro_batches: int = 1
    shard: bool = False
    layers: int = 0
    hidden: int = 0
    steps: int = 3

    @property
    def ranks(self) -> int:
        """Processes."""
        return self.dp * self.mp * self.pp

    def recipe(self, data: str) -> Recipe:
        """As a user would write it."""
        from gpt2dsl import Data, Model, Parallel, Runtime, Task, Train

        model = Model(size=self.size, dropout=0.0)
        if self.layers:
            model = model.evolve(layers=self.layers)
        if self.hidden:
            model = model.evolve(hidden=self.hidden, heads=2)
        parallel = Parallel(
            dp=self.dp,
            mp=self.mp,
            pp=self.pp,
            micro_batches=self.micro_batches,
            optimizer_shard=self.shard,
        )
        train = Train(batch_size=self.rows, seq_length=self.tokens, steps=self.steps)
        task = Task.pretrain(data=data)
        return model | parallel | train | Data() | task | Runtime()


def rank(case: Case) -> None:
    """Steps of one rank; prints its peak in bytes and the time of each step."""
    import numpy as np
    from mindspore import Tensor

    from gpt2dsl.backend import device
    from gpt2dsl.engine.context import parallel_context
    from gpt2dsl.model.forward import MicroBatch
    from gpt2dsl.model.gpt2 import GPT2
    from gpt2dsl.parts.bundle import Parts
    from gpt2dsl.training.step import TrainStep

    parts = Parts.of(case.recipe("unused").parts.values())
    device.use("cpu")
    team = parallel_context(parts)
    geometry = parts.model.geometry(vocab=50257, labels=0)
    network = GPT2(geometry, tensor_group=team.tensor_group, pipeline_group=team.pipeline_group)
    random = np.random.default_rng(0)
    for value in network.by_name.values():
        value.set_data(Tensor(random.standard_normal(value.shape, np.float32) * np.float32(0.02)))
    step = TrainStep(
        network,
        parts.optim.settings(),
        micro_batches=case.micro_batches,
        data_group=team.data_group,
        shards_optimizer=case.shard,
    )
    rows = case.rows // case.dp // case.micro_batches
    ids = random.integers(0, 50257, (rows, case.tokens)).astype(np.int32)
    times = []
    for _ in range(case.steps):
        started = time.perf_counter()
        step.step([MicroBatch(ids, ids)] * case.micro_batches, 1e-4)
        times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(f"\nfound {json.dumps({'peak': peak, 'times': times})}\n")


def measured(case: Case) -> list[dict[str, Any]]:
    """The peak of each rank in bytes, and the seconds of its steps."""
    import subprocess

    from gpt2dsl.cluster.supervisor import Node, Timeouts, free_port, supervise

    command = [sys.executable, __file__, "--rank", json.dumps(attrs.astuple(case))]
    if case.ranks == 1:
        said = [subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout]
    else:
        with tempfile.TemporaryDirectory() as folder:
            node = Node(ranks=case.ranks, local=case.ranks, port=free_port())
            supervise(command, node, Path(folder), Timeouts(collective=300))
            said = [(Path(folder) / f"rank_{i}.log").read_text() for i in range(case.ranks)]
    return [json.loads(text.rpartition("found ")[2].splitlines()[0]) for text in said]


def main() -> None:
    """Prints a line a layout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="124m")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--layouts", nargs="+", default=LAYOUTS, help="dp,mp,pp")
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank:
        rank(Case(*json.loads(args.rank)))
        return
    print(f"GPT-2 {args.size}, {args.rows} x {args.tokens}, float32, no dropout; GB a rank")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as data:
        data.write("some words of text to plan with " * 20_000)
        data.flush()
        for layout in args.layouts:
            dp, mp, pp = map(int, layout.split(","))
            for shard in (False, True) if dp > 1 else (False,):
                show(Case(args.size, args.rows, args.tokens, dp, mp, pp, pp, shard), data.name)


def show(case: Case, data: str) -> None:
    """One layout's line."""
    said = case.recipe(data).plan().memory
    both = case, attrs.evolve(case, layers=2, hidden=32)
    peaks, empty = ([rank["peak"] for rank in measured(one)] for one in both)
    found = max(peak - least for peak, least in zip(peaks, empty, strict=True))
    name = f"dp {case.dp} mp {case.mp} pp {case.pp}" + (" shard" if case.shard else "")
    parts = ", ".join(f"{word} {size / 1e9:.2f}" for word, size in attrs.asdict(said).items())
    print(
        f"{name:<20} measured {found / 1e9:.2f}  plan {said.total / 1e9:.2f}  "
        f"({said.total / found - 1:+.0%})  {parts}; empty process {max(empty) / 1e9:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    os.environ.setdefault("GLOG_v", "3")
    main()
