"""Memory of an evaluation: that of the rows of a micro-batch, however large the batch is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ranks import ROOT

PROGRAM = """
import json, sys
from pathlib import Path
import attrs, numpy as np
from gpt2dsl.backend import device
from gpt2dsl.data.rows import Rows
from gpt2dsl.engine.evaluate import mean_loss
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.training.batch_outputs import BatchOutputs
from gpt2dsl.weights.initial import initial

batch, parts = map(int, sys.argv[1:])
geometry = GPT2Config(layers=4, heads=8, hidden=512, positions=256, vocab=2000, dropout=0.0)
with device.turn():
    device.use("cpu")
    network = GPT2(geometry)
    network.load(initial(geometry, 0))
    outputs = BatchOutputs(network, batch // parts)
rows = Rows(np.arange(64 * 256 + 1, dtype=np.int32) % 2000, 256)
loss, tokens = mean_loss(outputs, rows, batch)
status = Path("/proc/self/status").read_text()
print(json.dumps({
    "peak": int(status.partition("VmHWM:")[2].split()[0]), "loss": loss, "tokens": tokens,
}))
"""


def measured(batch: int, parts: int) -> dict[str, float]:
    """The peak in kB, the loss and the tokens of 64 rows, evaluated by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(batch), str(parts)],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a peak there")
def test_many_rows_in_parts_take_the_memory_of_a_few() -> None:
    few, parts = measured(4, 1), measured(64, 16)
    assert parts["peak"] < 1.1 * few["peak"]
    assert parts["tokens"] == few["tokens"] == 64 * 256
    assert parts["loss"] == pytest.approx(few["loss"], rel=1e-9)
