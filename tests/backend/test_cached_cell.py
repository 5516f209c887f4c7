from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, logging, sys, time
import mindspore as ms
import numpy as np
from gpt2dsl.backend import cached_cell, device
from gpt2dsl.model.decoding import KVCacheDecoder
from gpt2dsl.model.evaluation import TokenLogits
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.layout.precision import PrecisionPolicy
from tests.judges import TINY, random_weights

compute, *prompts = sys.argv[1:]
device.use("cpu")
network = GPT2(TINY, precision=PrecisionPolicy(compute=compute))
network.load(random_weights(TINY))
kept = []
keep = cached_cell._keep
cached_cell._keep = lambda name, graph: (kept.append(name), keep(name, graph))
decoder, found = KVCacheDecoder(network, 1), {}
for length in map(int, prompts):
    decoder.reserve(length + 2)
    logits = decoder.prefill([0], [[1 + i % 50 for i in range(length)]])
    for _ in range(2):
        logits = decoder.step(np.array([7], np.int32))
    found[length] = logits.tobytes().hex()
    TokenLogits(network).logits(np.ones((1, 3), np.int32))  # a graph that is not kept comes between
print(json.dumps([found, len(kept)]))
"""


def run(*words: str) -> tuple[dict[str, str], int]:
    """Logits after prompts of these lengths, in a process of its own; how many it compiled."""
    command = [sys.executable, "-c", PROGRAM, *words]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found, compiled = json.loads(said.stdout.splitlines()[-1])
    return found, compiled


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPT2DSL_CACHE", str(tmp_path))
    return tmp_path / "graphs"


def test_another_process_takes_each_graph_in_any_order_and_computes_the_same() -> None:
    compiled, count = run("float32", "5", "40")
    assert count == 4  # of prompts up to 32 and 48, a token's embedding, a cache of 128
    taken, again = run("float32", "40", "5")
    assert taken == compiled
    assert again == 0
    # graphs of another precision are others
    assert run("float16", "5")[1] == 3


def test_a_damaged_graph_is_compiled_anew(empty: Path) -> None:
    compiled, count = run("float32", "5")
    for file in empty.glob("*.graph"):
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert run("float32", "5") == (compiled, count)


def test_a_disk_that_takes_no_graph_changes_nothing(empty: Path) -> None:
    empty.write_text("not a folder")
    assert run("float32", "5")[0]


TRAINING = """
import json, sys
import attrs
import numpy as np
from gpt2dsl.layout.lora import lora_specs
from gpt2dsl.backend import cached_cell, device
from gpt2dsl.model import dropout_masks
from gpt2dsl.model.evaluation import TokenLogits, TokenLosses
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.initial import initial_adapters
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.training.step import TrainStep
from gpt2dsl.parts import LoRA, Optim
from tests.judges import TINY, random_ids, random_weights

optim, kind, before = json.loads(sys.argv[1]), sys.argv[2], len(sys.argv) > 3
device.use("cpu")
geometry = attrs.evolve(
    TINY, labels=2 if kind == "classes" else 0, dropout=0.1 if kind == "dropout" else 0.0
)
added = lora_specs(geometry, LoRA(r=2).settings()) if kind == "adapters" else ()
network = GPT2(geometry, adapters=added, recompute="full" if kind == "recompute" else "none")
network.load(random_weights(geometry))
network.load_adapters(dict(Arrays(initial_adapters(added, 0))))
kept = []
keep = cached_cell._keep
cached_cell._keep = lambda name, graph: (kept.append(name), keep(name, graph))
if before:  # another graph is compiled first
    TokenLogits(GPT2(TINY) if geometry.labels else network).logits(random_ids(TINY, 1, 3))
step = TrainStep(network, Optim(**optim).settings(), clip=1.0)
found = []
for i, length in enumerate((12, 7, 12) if kind == "plain" else (12, 12)):
    ids = random_ids(TINY, 2, length + 1, seed=i)
    labels = np.array([[0, length - 1], [1, 2]], "i4") if kind == "classes" else ids[:, 1:]
    masks = tuple(dropout_masks.masks(geometry, 0, i, range(2), length))
    batch = MicroBatch(np.array(ids[:, :-1], order="C"), np.array(labels, order="C"), masks)
    found += map(float.hex, step.step([batch], 1e-2))
if kind != "classes":
    losses = TokenLosses(network).losses(random_ids(TINY, 1, 9), random_ids(TINY, 1, 9, seed=2))
    found.append(losses.tobytes().hex())
states = {**network.trained_arrays(), **step.state()}
found.append(b"".join(states[name].tobytes() for name in sorted(states)).hex())
print(json.dumps([found, len(kept)]))
"""


def trained(optim: dict[str, Any], kind: str = "plain", *more: str) -> tuple[list[str], int]:
    """Losses, norms, and all values after the steps; how many graphs were compiled."""
    command = [sys.executable, "-c", TRAINING, json.dumps(optim), kind, *more]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found, compiled = json.loads(said.stdout.splitlines()[-1])
    return found, compiled


@pytest.mark.parametrize(
    "kind",
    [
        "plain",
        "adapters",
        *(
            pytest.param(kind, marks=pytest.mark.soak)
            for kind in ("classes", "dropout", "recompute")
        ),
    ],
)
def test_another_process_takes_the_graph_of_a_training_step_and_trains_bit_for_bit(
    kind: str,
) -> None:
    compiled, _ = trained({"lr": 0.5}, kind)
    taken, again = trained({"lr": 0.25}, kind, "another graph comes first")
    assert taken == compiled
    assert again == 0


def test_a_graph_serves_all_layers_and_another_optimizer_has_others_of_its_own() -> None:
    # of rows of 12 and of 7 tokens: the embedding and a block, both ways, and the loss; of any:
    # squares and updates of a block's parameters, and of all others; of rows whose tokens' losses
    # are asked for, the embedding, a block and the losses
    assert trained({})[1] == 2 * 5 + 2 * 2 + 3
    others: tuple[dict[str, Any], ...] = ({"beta2": 0.9}, {"name": "sgd"})
    for optim in others:
        assert trained(optim)[1] == 2
    assert trained({"weight_decay": 0.2})[1] == 0  # it is given with each step
