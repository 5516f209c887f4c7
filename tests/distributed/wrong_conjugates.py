"""A rank of a job that trains with wrong collectives, and tells its losses.

``python -m tests.distributed.wrong_conjugates FILE``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import mindspore.ops.operations as P  # noqa: N812
import numpy as np
from mindspore import Tensor, nn

from gpt2dsl.distributed import collectives
from gpt2dsl.distributed.context import ParallelContext, join
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.params import param_specs
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.parts import Optim
from gpt2dsl.training.step import TrainStep

GEOMETRY = GPT2Config(layers=1, heads=4, hidden=24, positions=20, vocab=301, inner=50, dropout=0.0)
STEPS = 8


class PlainLeave(nn.Cell):
    """AllReduce with MindSpore's own gradient, which is AllReduce."""

    def __init__(self, group: str) -> None:
        super().__init__(auto_prefix=False)
        self.sum = P.AllReduce(group=group)

    def construct(self, x: Tensor) -> Tensor:
        return self.sum(x)


class PlainEnter(nn.Cell):
    """Nothing, whose gradient is that of one rank alone."""

    def __init__(self, _group: str) -> None:
        super().__init__(auto_prefix=False)

    def construct(self, x: Tensor) -> Tensor:
        return x


def losses(team: ParallelContext) -> list[float]:
    """Of a few steps on rows that stay the same."""
    network = GPT2(GEOMETRY, tensor_group=team.tensor_group)
    random = np.random.default_rng(0)  # judges.py has this too, but torch takes long to import
    arrays = {one.name: random.normal(size=one.shape) * 0.2 for one in param_specs(GEOMETRY)}
    network.load({name: array.astype(np.float32) for name, array in arrays.items()})
    step = TrainStep(network, Optim(name="sgd").settings(), clip=0.0)
    return [step.step(batch(), 0.3)[0] for _ in range(STEPS)]


def batch() -> Iterator[MicroBatch]:
    ids = np.random.default_rng(1).integers(0, GEOMETRY.vocab, (2, 18)).astype(np.int32)
    yield MicroBatch(ids[:, :-1], ids[:, 1:])


def main() -> None:
    team = join(ParallelDims(mp=2), int(os.environ["RANK_ID"]), "cpu")
    found = {}
    for name, wrong in {"_AllReduce": PlainLeave, "_AllReduceGrad": PlainEnter}.items():
        right = getattr(collectives, name)
        setattr(collectives, name, wrong)
        found[name] = losses(team)
        setattr(collectives, name, right)
    if team.is_main_process:
        Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
