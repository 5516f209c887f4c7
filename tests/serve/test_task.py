"""The task serve: recipes and chains that end in a server."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from gpt2dsl import Generation, Model, Recipe, RunError, SpecError, Task
from gpt2dsl.data.tokenizer import Tokenizer
from tests.commands import gpt2dsl
from tests.serve.conftest import Server

SPEC = """
[runtime]
output = "runs"

[[stage]]
[stage.model]
size = "nano"
layers = 1
hidden = 16
heads = 2
positions = 64
[stage.data]
tokenizer = "train"
vocab = 300
[stage.train]
seq_length = 8
batch_size = 2
steps = 2
[stage.task]
kind = "pretrain"
data = "text.txt"

[[stage]]
[stage.generation]
forced_bos_token_id = 40
[stage.task]
kind = "serve"
port = 0
warmup = false
grace = 5
"""
TEXT = "the old cat sat on the mat and the young dog ran to the red barn\n" * 20


class Run(Server):
    """A process of ``gpt2dsl run`` whose last stage serves.

    Args:
        folder: that it runs in.
        words: after the spec.
    """

    def __init__(self, folder: Path, *words: str) -> None:
        command = [sys.executable, "-m", "gpt2dsl", "run", "mine.toml", *words]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.wait_until("serving mine on ")

    def end(self, sig: signal.Signals) -> str:
        """End it by a signal, and return what it says on stdout."""
        self.process.send_signal(sig)
        said, rest = self.process.communicate(timeout=60)
        self.lines.append(rest)
        assert self.process.returncode == 0, "".join(self.lines)
        return said

    @property
    def told(self) -> str:
        return "".join(self.lines)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    started: list[Run] = []

    def run(*words: str) -> Run:
        started.append(Run(tmp_path, *words))
        return started[-1]

    yield run
    for one in started:
        one.process.kill()
        one.process.communicate()


def continuation(server: Server) -> str:
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    (model,) = client.models.list().data
    assert model.id == "mine"
    return client.completions.create(model="mine", prompt="the", max_tokens=3).choices[0].text


def test_a_chain_trains_and_serves_and_the_second_time_only_serves(
    tmp_path: Path, start: Callable[..., Run]
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "mine.toml").write_text(SPEC)
    first = start()
    (checkpoint,) = tmp_path.glob("runs/mine/pretrain-*/checkpoints/step-2")
    forced = Tokenizer.load(str(checkpoint)).decode([40])
    assert continuation(first)[0] == forced

    second = start("--json", "--set", "stage.2.task.batch=1")
    assert continuation(second)[0] == forced
    document: Any = json.loads(second.end(signal.SIGINT))
    assert "training" not in second.told
    assert [stage["ran"] for stage in document["stages"]] == [False, True]
    served = document["stages"][1]
    assert served["directory"] is None
    assert served["result"]["url"] == second.url.removesuffix("/v1")
    assert served["result"]["tokens"] == 3

    said = first.end(signal.SIGTERM)
    assert "stage 2 of 2, serve: it serves until it is stopped" in first.told
    assert "training 2/2" in first.told
    assert f"served      {first.url.removesuffix('/v1')}" in said
    assert "not run again" not in said
    assert [path.name for path in (tmp_path / "runs/mine").glob("serve-*")] == []

    plan = subprocess.run(
        [sys.executable, "-m", "gpt2dsl", "plan", "mine.toml"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "2 stages, 1 to run" in plan
    assert "+ 2 serve      weights of stage 1 it serves until it is stopped" in plan


@pytest.mark.usefixtures("elsewhere")
def test_others_than_this_machine_need_the_key_of_the_environment(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPT2DSL_API_KEY", raising=False)
    spec = Path("open.toml")
    spec.write_text(
        f'[model]\nweights = "{weights}"\n[task]\nkind = "serve"\nhost = "0.0.0.0"\nport = 0\n'
    )
    plan = Recipe.load("open.toml").plan()
    with pytest.raises(SpecError) as caught:
        plan.run()
    host = "0.0.0.0"  # noqa: S104
    words = f"task.host = {host}: anyone who reaches {host} could ask: set GPT2DSL_API_KEY"
    assert str(caught.value) == f"open.toml:5  {words} [G2-202]"
    of_name = Recipe.load("open.toml", ["task.host=0"]).plan()
    assert not of_name.refusals()  # what it stands for is known once it is listened on
    with pytest.raises(SpecError) as caught:
        of_name.run()
    assert str(caught.value).startswith("--set  task.host = 0: anyone who reaches 0 could ask")
    monkeypatch.setenv("GPT2DSL_API_KEY", " ")
    with pytest.raises(SpecError, match="GPT2DSL_API_KEY: it is blank"):
        plan.run()


def test_an_address_that_can_not_be_listened_on_fails_before_anything_is_loaded(
    weights: Path,
) -> None:
    served = Model(weights=str(weights)) | Task.serve(host="no.such.host.invalid")
    with pytest.raises(RunError, match=r"no\.such\.host\.invalid:8000: can't be listened on"):
        served.plan().run()


def test_an_event_loop_is_not_held_up(weights: Path) -> None:
    async def notebook() -> None:
        (Model(weights=str(weights)) | Task.serve(port=0)).plan().run()

    with pytest.raises(RunError, match="an event loop is running in this thread"):
        asyncio.run(notebook())


@pytest.mark.usefixtures("elsewhere")
def test_plan_check_and_show_of_a_server_load_nothing_and_run_refuses_what_check_refuses(
    weights: Path,
) -> None:
    served = Model(weights=str(weights)) | Generation(beams=2) | Task.serve(template="none")
    Path("bad.toml").write_text(served.to_toml())
    for words in (["check"], ["run"]):
        said = gpt2dsl(*words, "bad.toml", code=2)
        assert "task.template = none" in said.stdout + said.stderr
        assert "there is no such file" in said.stdout + said.stderr
    assert gpt2dsl("show", "bad.toml").stdout.count('kind = "serve"') == 1
    assert "generation.beams changes nothing: requests" in gpt2dsl("plan", "bad.toml").stdout
