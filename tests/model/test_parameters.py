"""Loading of a rank's parameters: their values, and the memory that it takes."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2dsl.distributed.process_groups import PipelineGroup, TensorParallelGroup
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASettings, lora_specs
from gpt2dsl.layout.params import WTE
from gpt2dsl.model.parameters import ShardedParameters
from gpt2dsl.weights import initial as weights_initial
from gpt2dsl.weights import reading
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.initial import initial, initial_adapters
from gpt2dsl.weights.values import Values

CONFIG = GPT2Config(layers=4, heads=4, hidden=128, positions=64, vocab=2001)
LARGEST = 4 * CONFIG.padded_vocab * CONFIG.hidden
SLACK = 2**20
"""Bytes of Python's own objects, and of a block of each thread."""


def rank(shard: int, stage: int, config: GPT2Config = CONFIG) -> ShardedParameters:
    """The parameters of a rank of mp 2 x pp 2; nothing is sent, so its groups need no names."""
    adapters = lora_specs(config, LoRASettings(targets="c_attn|c_proj", r=2, alpha=4))
    groups = TensorParallelGroup(2, shard), PipelineGroup(2, stage)
    return ShardedParameters(config, adapters, *groups, {})


@pytest.mark.parametrize("source", ["new", "float16"])
@pytest.mark.parametrize(("shard", "stage"), [(0, 0), (1, 1)])
def test_a_rank_loads_its_part_in_the_memory_of_two_tensors(
    source: str, shard: int, stage: int, tmp_path: Path
) -> None:
    new = initial(CONFIG, 3)
    values, arrays = Values(new), dict(Arrays(new))
    if source == "float16":
        arrays = {name: array.astype(np.float16) for name, array in arrays.items()}
        huggingface.write(tmp_path, CONFIG, arrays, kind="F16")
        values = reading.read(tmp_path).values
    network = rank(shard, stage)
    tracemalloc.start()
    network.load(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    own = sum(parameter.asnumpy().nbytes for parameter in network.by_name.values())
    assert peak <= own + 2 * LARGEST + SLACK
    for name, parameter in network.by_name.items():
        padding = CONFIG.padded_vocab - CONFIG.vocab if name == WTE else 0
        padded = np.pad(arrays[name], ((0, padding), *[(0, 0)] * (arrays[name].ndim - 1)))
        expected = network.shard_specs[name].cut(padded, 2, shard)
        assert np.array_equal(parameter.asnumpy(), expected), name


def test_a_rank_draws_only_the_adapters_of_its_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    new = initial_adapters(rank(0, 0).adapters, 0)
    before = weights_initial._random

    def spied(name: str, seed: int) -> Any:
        drawn.append(name)
        return before(name, seed)

    monkeypatch.setattr(weights_initial, "_random", spied)
    network = rank(1, 1)
    network.load_adapters(Values(new))
    assert sorted(drawn) == sorted(network.of_adapters)
    assert all(name.split(".")[2] in "23" for name in drawn)


RISE = """
import sys
from tests.model.test_parameters import rank, CONFIG
import attrs
from gpt2dsl.weights.initial import initial
from gpt2dsl.weights.values import Values

def memory():
    lines = open("/proc/self/status").read().splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines if "kB" in line}
    return sizes["VmRSS:"], sizes["VmHWM:"]

large = attrs.evolve(CONFIG, layers=12, heads=12, hidden=768, positions=1024, vocab=20_000)
network = rank(1, 0, large)
before, _ = memory()
network.load(Values(initial(large, 0)))
own = sum(parameter.asnumpy().nbytes for parameter in network.by_name.values())
print(memory()[1] - before, own, 4 * large.padded_vocab * large.hidden)
"""


@pytest.mark.soak
def test_the_resident_memory_of_a_rank_rises_by_its_part_and_two_tensors() -> None:
    """Of 102 million parameters, mp 2 x pp 2, new weights."""
    command = [sys.executable, "-c", RISE]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    rise, own, largest = map(int, out.split()[-3:])
    assert rise <= own + 2 * largest
