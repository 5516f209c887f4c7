from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, logging, sys, time
import mindspore as ms
import numpy as np
from gpt2dsl.model import device, graphs
from gpt2dsl.model.decoding import Decoder
from gpt2dsl.model.network import GPT2, Scores
from gpt2dsl.parts import Precision
from tests.judges import TINY, random_weights

compute, *prompts = sys.argv[1:]
device.use("cpu")
network = GPT2(TINY, precision=Precision(compute=compute))
network.load(random_weights(TINY))
kept = []
graphs._keep = lambda name, graph, keep=graphs._keep: (kept.append(name), keep(name, graph))
decoder, found = Decoder(network, 1), {}
for length in map(int, prompts):
    decoder.reserve(length + 2)
    logits = decoder.prefill([0], [[1 + i % 50 for i in range(length)]])
    for _ in range(2):
        logits = decoder.step(np.array([7], np.int32))
    found[length] = logits.tobytes().hex()
    Scores(network).logits(np.ones((1, 3), np.int32))  # a graph that is not kept comes between
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
