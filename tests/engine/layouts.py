"""One small recipe under several layouts of ranks, and what a run of it gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from gpt2dsl import Data, LoRA, Model, Optim, Parallel, Recipe, Task, Train
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.job import Result
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.schema.folder import OPTIMIZER_STATE, WEIGHTS
from gpt2dsl.weights import reading, training_state
from gpt2dsl.weights.formats import huggingface
from tests.engine.conftest import small_recipe, text
from tests.judges import random_weights

ALONE = Parallel()
ADAPTERS = LoRA(
    r=3, alpha=6, dropout=0.1, targets="c_attn|c_proj|c_fc", alpha_pattern={"c_fc": 3.0}
)


def name_of(parallel: Parallel) -> str:
    shard = "-shard" if parallel.optimizer_shard else ""
    shard += "-sequence" if parallel.sequence_parallel else ""
    layout = f"dp{parallel.dp}-mp{parallel.mp}-pp{parallel.pp}"
    return f"{layout}-micro{parallel.micro_batches}{shard}"


def write_weights(folder: Path, **flags: Any) -> Path:
    """Weights with their vocabulary, of a network as small as the recipe's."""
    tokenizer = Tokenizer.train([text(400)], 320)
    geometry = GPT2Config(layers=2, heads=2, hidden=32, positions=64, vocab=len(tokenizer), **flags)
    folder.mkdir()
    huggingface.write(folder, geometry, random_weights(geometry), tokenizer)
    return folder


@attrs.frozen
class Outcome:
    """What a training left on disk."""

    result: Result

    def metrics(self, key: str) -> list[float]:
        assert self.result.directory
        lines = (self.result.directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [found[key] for line in lines if key in (found := json.loads(line))]

    @property
    def losses(self) -> list[float]:
        return self.metrics("loss")

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Of the last checkpoint, the optimizer's too, by the file of one process."""
        assert self.result.checkpoint
        found: dict[str, NDArray[Any]] = {}
        for path in sorted(self.result.checkpoint.glob("*.safetensors")):
            found |= {f"{path.name} {name}": array for name, array in load_file(path).items()}
        if not found:  # each rank wrote its part
            weights = reading.read(self.result.checkpoint).arrays
            states, _ = training_state.read(self.result.checkpoint)
            found |= {f"{WEIGHTS} {name}": array for name, array in weights.items()}
            found |= {f"{OPTIMIZER_STATE} {name}": state.load() for name, state in states.items()}
        return found


@attrs.frozen
class Ended:
    """What a run that ends bit for bit as another one has in common with it."""

    losses: list[float]
    state: Any
    tensors: dict[str, bytes]

    @classmethod
    def of(cls, outcome: Outcome) -> Ended:
        assert outcome.result.checkpoint
        state = json.loads((outcome.result.checkpoint / "state.json").read_text())
        tensors = {name: array.tobytes() for name, array in outcome.tensors().items()}
        return cls(outcome.losses, state, tensors)


class Runs:
    """Trainings of new weights, of a file's, or of adapters on them, each made once a layout."""

    def __init__(self, folder: Path, **flags: Any) -> None:
        self.folder = folder
        self.weights = write_weights(folder / "weights", **flags)
        self._made: dict[tuple[str, Parallel], Outcome] = {}

    def recipe(self, kind: str, parallel: Parallel) -> Recipe:
        """Twenty steps, with dropout, checkpoints and evaluations."""
        train = Train(batch_size=8, seq_length=32, steps=20, save_every=10, evaluate_every=10)
        recipe = small_recipe(self.folder).replace(train, parallel)
        task: Any = recipe.parts["task"]
        tuned = Task.finetune(data=task.data, eval_data=task.eval_data)
        if kind == "weights":  # Adam makes steps of the noise of gradients that are 0
            model, optim = Model(weights=str(self.weights)), Optim(name="sgd", lr=1e-2)
            recipe = recipe.replace(model, tuned, Data(), optim)
        if kind == "adapters":
            model = Model(weights=str(self.weights), dropout=0.1)
            recipe = recipe.replace(model, ADAPTERS, tuned, Data(), Optim(lr=1e-2))
        return recipe.set("runtime.output", str(self.folder / f"{kind}-{name_of(parallel)}"))

    def under(self, kind: str, parallel: Parallel) -> Outcome:
        """What it gave."""
        if (kind, parallel) not in self._made:
            self._made[kind, parallel] = self.run(self.recipe(kind, parallel))
        return self._made[kind, parallel]

    def run(self, recipe: Recipe) -> Outcome:
        """Runs as a user does, from what its directory has."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GPT2DSL_CACHE", str(self.folder / "cache"))
            return Outcome(recipe.plan().run())
