"""Ranks that die, and a user who stops them: all end, and a resume goes on."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from gpt2dsl import Callback, Interrupted, Model, Parallel, Recipe, RunError, Schedule, Task, Train
from gpt2dsl.engine import parallel
from gpt2dsl.weights import store
from tests.cluster.jobs import environment, marked
from tests.engine.conftest import small_recipe
from tests.engine.layouts import Ended, Outcome

STEPS = 40
COMMAND = "gpt2dsl run here.toml"
TWO = Parallel(dp=2, optimizer_shard=True)
FOUR = Parallel(dp=2, mp=2)

HOOK = """
import os, signal, sys, time

rank, event, end, note = os.environ["GPT2DSL_TEST_KILL"].split("|")

def hook(name, args):
    if name == event and str(args[1 if event == "os.rename" else 0]).endswith(end):
        with open(note, "w") as file:
            file.write(f"{os.getpid()} {time.time()}")
        os.kill(os.getpid(), signal.SIGKILL)

if os.environ.get("GPT2DSL_RANK") == rank:
    sys.addaudithook(hook)
"""
"""A rank that kills itself when it is about to do something."""

MOMENTS = {
    "start": (3, "import", "gpt2dsl.engine.train_step"),
    "part": (1, "open", "rank_1/model.safetensors"),
    "save": (0, "os.rename", "step-10"),
}


class After(Callback):
    """Does something after a step, once."""

    def __init__(self, step: int, do: Callable[[], None]) -> None:
        self.step, self.do, self.at = step, do, 0.0

    @override
    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        if step >= self.step and not self.at:
            self.at = time.time()
            self.do()


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """Tells this test's processes from others; none is left in the end."""
    monkeypatch.setenv("GPT2DSL_TEST_MARK", str(tmp_path))
    found = str(tmp_path).encode()
    yield found
    assert ranks(found) == {}


def ranks(mark: bytes) -> dict[int, int]:
    """Rank → process, of those that run; -1 is the scheduler."""
    found = {}
    for pid in marked(mark):
        rank = re.search(rb"\0GPT2DSL_RANK=(\d+)\0", environment(pid))
        found[int(rank[1]) if rank else -1] = pid
    return found


def recipe(folder: Path, layout: Parallel) -> Recipe:
    """Steps and checkpoints of a single layer, with nothing held out."""
    folder.mkdir(exist_ok=True)
    return small_recipe(folder).replace(
        layout,
        Model(size="nano", layers=1, heads=2, hidden=32, positions=64, dropout=0.1),
        Train(batch_size=8, seq_length=32, steps=STEPS, save_every=10, evaluate_every=0),
        Schedule(kind="cosine", warmup=0.1, end=1e-4),
        Task.pretrain(data=str(folder / "train.txt")),
    )


def run(there: Recipe, *callbacks: Callback) -> Outcome:
    return Outcome(there.plan().run(resume_command=COMMAND, callbacks=callbacks))


def lost(there: Recipe, *callbacks: Callback) -> tuple[str, float]:
    """The message of a run that loses a rank, and when it came."""
    with pytest.raises(RunError) as caught:
        run(there, *callbacks)
    assert not isinstance(caught.value, Interrupted)
    return str(caught.value), time.time()


def lost_in_a_step(there: Recipe, mark: bytes, rank: int) -> str:
    """The message of a run whose rank is killed in its 16th step."""
    killed: dict[int, int] = {}

    def kill() -> None:
        killed.update(ranks(mark))
        os.kill(killed[rank], signal.SIGKILL)

    after = After(15, kill)
    message, at = lost(there, after)
    assert at - after.at < 30
    assert message.startswith(f"rank {rank} (")
    assert f"pid {killed[rank]}): killed by SIGKILL" in message
    return message


def lost_by_itself(there: Recipe, folder: Path, moment: str) -> str:
    """The message of a run with a rank that kills itself."""
    rank, event, end = MOMENTS[moment]
    note = folder / "note"
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join([str(folder / "hook"), *os.environ.get("PYTHONPATH", "").split()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        patch.setenv("GPT2DSL_TEST_KILL", f"{rank}|{event}|{end}|{note}")
        message, at = lost(there)
    pid, killed_at = note.read_text().split()
    assert at - float(killed_at) < 30
    assert message.startswith(f"rank {rank} (")
    assert f"pid {pid}): killed by SIGKILL" in message
    return message


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_run_that_loses_a_rank_and_is_then_stopped_by_ctrl_c_ends_bit_for_bit_as_if_neither(
    tmp_path: Path, mark: bytes
) -> None:
    undisturbed = Ended.of(run(recipe(tmp_path / "undisturbed", TWO)))
    there = recipe(tmp_path / "disturbed", TWO)
    message = lost_in_a_step(there, mark, rank=1)
    assert message.endswith(f"\ngo on with: {COMMAND}")
    assert ranks(mark) == {}
    with pytest.raises(Interrupted) as caught:
        run(there, After(25, ctrl_c))
    stopped = re.fullmatch(
        rf"stopped at step (\d+) of {STEPS}; checkpoint (.*)/step-\1\ngo on with: {COMMAND}",
        str(caught.value),
    )
    assert stopped
    assert 25 <= int(stopped[1]) < STEPS
    assert ranks(mark) == {}
    assert Ended.of(run(there)) == undisturbed


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One process, undisturbed."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT2DSL_CACHE", str(folder / "cache"))
        return run(recipe(folder, Parallel()))


@pytest.mark.soak
@pytest.mark.parametrize("moment", ["start", "step", "part", "save"])
def test_four_processes_of_which_one_is_killed_end_and_go_on_to_the_right_loss(
    alone: Outcome, tmp_path: Path, mark: bytes, moment: str
) -> None:
    there = recipe(tmp_path, FOUR)
    if moment == "step":
        message = lost_in_a_step(there, mark, rank=2)
        assert message.endswith(f"\ngo on with: {COMMAND}")
    else:
        message = lost_by_itself(there, tmp_path, moment)
        assert message.endswith(f"\nstart again with: {COMMAND}")
    assert ranks(mark) == {}
    again = run(there)
    assert again.losses == pytest.approx(alone.losses, rel=1e-5)
    assert again.result.steps == STEPS


@pytest.mark.parametrize(
    ("saved", "said", "advice"),
    [
        (True, False, f"\ngo on with: {COMMAND}"),
        (False, False, f"\nstart again with: {COMMAND}"),
        (True, True, ""),
    ],
    ids=["saved", "not saved", "a rank said why"],
)
def test_a_failure_says_how_to_go_on_unless_it_would_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: bool, said: bool, advice: str
) -> None:
    there = recipe(tmp_path, TWO)
    if saved:
        with store.writing(Path(there.plan().directory) / "checkpoints" / "step-10"):
            pass

    def fail(*_: Any, on_report: Callable[[dict[str, Any]], None], **_others: Any) -> None:
        if said:
            on_report({"kind": "error", "text": "no room", "rank": 1})
        raise RunError("G2-501", "rank 1: exit code 1")

    monkeypatch.setattr(parallel, "supervise", fail)
    assert lost(there)[0] == f"rank 1: exit code 1 [G2-501]{advice}"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_rank_killed_at_random_moments_around_saves_leaves_the_newest_sealed_checkpoint_whole(
    tmp_path: Path, mark: bytes
) -> None:
    chance = random.Random(1)
    there = recipe(tmp_path, TWO).set("train.save_every", 1).set("train.steps", 400)
    parent = Path(there.plan().directory) / "checkpoints"
    for _ in range(30):
        before = max((step for step, _ in store.steps(parent)), default=0)

        def kill() -> None:
            time.sleep(chance.uniform(0, 0.2))
            os.kill(chance.choice(sorted(ranks(mark).items())[-2:])[1], signal.SIGKILL)

        lost(there, After(before + chance.randrange(3, 8), kill))
        assert ranks(mark) == {}
        newest = store.newest(parent)
        assert not newest.skipped
        assert newest.step > before
        assert not [path for path in parent.iterdir() if path.name.startswith(".")]
