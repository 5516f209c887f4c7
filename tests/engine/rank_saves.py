"""A rank that saves a state full of known values, whole and in parts; ``tests.ranks`` runs it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor
from mindspore.ops.operations import AllReduce
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gpt2dsl import Optim
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.distributed.context import ParallelContext, join
from gpt2dsl.engine.checkpoint_contents import CheckpointContents
from gpt2dsl.engine.checkpoint_writer import CheckpointWriter
from gpt2dsl.engine.saves import Saves
from gpt2dsl.identity.identity import Identity
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.params import padded_shape, param_specs
from gpt2dsl.layout.precision import PrecisionPolicy
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.training.step import TrainStep

CASE, WHOLE, STEP = "case.json", "whole.safetensors", 3


def geometry_of(tokenizer: Tokenizer, **more: Any) -> GPT2Config:
    """A network with parameters whose rows no two replicas can share."""
    return GPT2Config(layers=3, heads=2, hidden=24, positions=9, vocab=len(tokenizer), **more)


def values_of(geometry: GPT2Config, kinds: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """Weights, and a state of each kind with padded rows of zeros."""
    random = np.random.default_rng(1)
    values = {}
    for spec in param_specs(geometry):
        values[spec.name] = random.normal(size=spec.shape).astype(np.float32)
        for kind in kinds:
            padded = np.zeros(padded_shape(spec, geometry), np.float32)
            padded[: spec.shape[0]] = random.normal(size=spec.shape)
            values[f"{kind}.{spec.name}"] = padded
    return values


def training_step(case: dict[str, Any], geometry: GPT2Config, team: ParallelContext) -> TrainStep:
    """A training step with the values, after some steps."""
    network = GPT2(
        geometry,
        precision=PrecisionPolicy(params=case["params"]),
        tensor_group=team.tensor_group,
        pipeline_group=team.pipeline_group,
    )
    step = TrainStep(
        network,
        Optim(name=case["optim"]).settings(),
        micro_batches=2,
        data_group=team.data_group,
        shards_optimizer=case["zero"],
    )
    values = values_of(geometry, step.optimizer.kinds)
    weights = {spec.name: values[spec.name] for spec in param_specs(geometry)}
    network.load(weights)
    states = {name: value for name, value in values.items() if name not in weights}
    step.load_state(states, {"step": STEP, "updates": STEP, "loss_scale": None})
    return step


def saves_of(folder: Path, step: TrainStep, team: ParallelContext, *, is_async: bool) -> Saves:
    """The saves of a run with nothing but this state."""
    contents = CheckpointContents(
        step=step,
        tokenizer=Tokenizer.load(folder / "tokenizer"),
        team=team,
        copies=is_async,
    )
    writer = CheckpointWriter(
        parent=folder / "checkpoints",
        contents=contents,
        identity=Identity(values={}, contents={}),
        keep=2,
    )
    return Saves(writer, is_async=is_async, told=lambda *_: None)


def main() -> None:
    file = Path(sys.argv[1])
    folder = file.parent
    case = json.loads((folder / CASE).read_text())
    dims = ParallelDims(*case["dims"])
    rank = int(os.environ["RANK_ID"])
    team = join(dims, rank, "cpu")
    step = training_step(case, geometry_of(Tokenizer.load(folder / "tokenizer")), team)
    whole = step.network.trained_arrays() | step.state()
    if rank == 0:
        save_file(whole, folder / WHOLE)
    counted = _count_elements()
    with saves_of(folder, step, team, is_async=case["async"]) as saves:
        saves.begin(None)
        if case["async"]:
            for weight in (*step.network.trained().values(), *step.optimizer.states()):
                weight.set_data(Tensor(np.zeros(weight.shape, np.float32)))
        saves.finish()
    sent = sum(counted)
    team.barrier()
    if rank == 0:
        file.write_text(json.dumps({"sent": 4 * sent}))


def _count_elements() -> list[int]:
    """Count the elements of each collective from here on."""
    counted: list[int] = []
    call = AllReduce.__call__

    def count(self: Any, *args: Any) -> Any:
        counted.extend(int(np.prod(arg.shape)) for arg in args)
        return call(self, *args)

    AllReduce.__call__ = count
    return counted


if __name__ == "__main__":
    main()
