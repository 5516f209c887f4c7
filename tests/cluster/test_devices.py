"""A device that is not here is told before MindSpore is asked for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl import Model, RunError, Runtime, SpecError, Task, Train
from gpt2dsl.backend import device
from gpt2dsl.cluster import devices
from tests.cli.test_cli import run

ABSENT = [name for name in ("ascend", "gpu") if devices.missing(name)]


@pytest.mark.parametrize("absent", ABSENT)
def test_a_device_that_is_not_here_is_noted_by_check_and_refused_by_run(
    absent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Model(size="nano") | Train(seq_length=32, steps=1) | Runtime(device=absent)
    recipe |= Task.pretrain(data="sample:train")
    words = f"runtime.device = {absent}: this machine has no {absent}"
    with pytest.raises(
        RunError, match=f"^{words}.*--set runtime.device=cpu, .* in Python, runs here \\[G2-402\\]$"
    ):
        recipe.plan().run()
    Path("a.toml").write_text(recipe.to_toml())
    assert run("check", "a.toml") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "no faults"
    assert second.startswith(f"note: {words}")


@pytest.mark.parametrize("absent", ABSENT)
def test_a_device_that_mindspore_can_not_use_is_one_line(absent: str) -> None:
    words = f"^runtime.device = {absent}: MindSpore .* can't use it here: .*$"
    with pytest.raises(RunError, match=words):
        device._choose.__wrapped__(absent)


def test_a_conversion_needs_no_device(tmp_path: Path) -> None:
    recipe = Runtime(device="ascend") | Task.convert(source=str(tmp_path), target="out")
    with pytest.raises(SpecError) as refused:
        recipe.plan().run()
    assert "runtime.device" not in str(refused.value)


def test_cpu_is_always_here() -> None:
    assert devices.missing("cpu") == ""
