from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt2dsl import Data, Model, Runtime, Task, Train
from gpt2dsl.backend import cpu
from gpt2dsl.layout.flops import model_flops

SMALL = (
    Model(size="nano", layers=1, hidden=32, heads=2, positions=16)
    | Data(tokenizer="train", vocab=300)
    | Train(batch_size=2, seq_length=8, steps=3)
    | Task.pretrain(data="sample:train")
)


def test_a_run_logs_the_share_of_the_peak_that_its_model_flops_take(tmp_path: Path) -> None:
    plan = (SMALL | Runtime(output=str(tmp_path), peak_flops=1e9)).plan()
    result = plan.run(quiet=True)
    assert result.directory
    lines = map(json.loads, (result.directory / "metrics.jsonl").read_text().splitlines())
    steps = [line for line in lines if "mfu" in line]
    assert len(steps) == 3
    flops = model_flops(plan.prepared().geometry, 2, 8)
    for step in steps:
        seconds = 2 * 8 / step["tokens_per_second"]
        assert step["mfu"] == pytest.approx(flops / seconds / 1e9)
    assert result.mfu == pytest.approx(sum(step["mfu"] for step in steps[1:]) / 2)
    assert "of peak FLOP/s (MFU)" in (result.directory / "report.html").read_text()


def test_the_peak_of_a_cpu_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT2DSL_CACHE", str(tmp_path))
    cpu.peak_flops.cache_clear()
    speed = cpu.peak_flops()
    assert speed > 1e9
    monkeypatch.setattr(cpu, "_measured", lambda: pytest.fail("measured again"))
    cpu.peak_flops.cache_clear()
    assert cpu.peak_flops() == pytest.approx(speed, rel=1e-5)
