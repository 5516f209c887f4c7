"""Files that earlier versions wrote are read, resumed and served."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import gpt2dsl
from gpt2dsl import Recipe
from tests.commands import gpt2dsl as command
from tests.serve.in_process import Client

VERSIONS = sorted(path for path in Path(__file__).parent.iterdir() if (path / "runs").is_dir())
RUN = "small-6da845b8"
LOSSES = {
    7: 5.19788646, 8: 5.13147020, 9: 5.07097673, 10: 5.00469779, 11: 4.99838638, 12: 4.96736049,
}  # fmt: skip
"""Step → loss, as the version that wrote the files went on."""


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def earlier(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of what a version wrote, as the current folder."""
    shutil.copytree(request.param, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_spec_keeps_its_digest(earlier: Path) -> None:
    recipe = Recipe.load("small.toml")
    assert f"{recipe.name}-{recipe.digest[:8]}" == RUN
    assert Recipe.load(earlier / "runs" / RUN / "recipe.toml").digest == recipe.digest


def test_a_run_goes_on_where_it_was_stopped(earlier: Path) -> None:
    assert "resumed from" in command("run", "small.toml").stderr
    lines = (earlier / "runs" / RUN / "metrics.jsonl").read_text().splitlines()
    losses = {line["step"]: line["loss"] for line in map(json.loads, lines) if "loss" in line}
    assert sorted(losses) == list(range(1, 13))
    assert {step: losses[step] for step in LOSSES} == pytest.approx(LOSSES, rel=1e-4)


def test_a_checkpoint_is_served_with_the_text_that_it_gives_in_python(earlier: Path) -> None:
    weights = earlier / "runs" / RUN / "checkpoints" / "step-5"
    text = " sang" * 12
    lm = gpt2dsl.load(str(weights))
    assert lm.generate("the", max_new_tokens=12) == f"the{text}"
    client = Client(weights)
    try:
        assert client.choice(prompt="the", max_tokens=12)["text"] == text
    finally:
        client.close()
