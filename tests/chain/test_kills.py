"""Chains that are killed at any moment: the same command ends them as if nothing had happened."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from gpt2dsl import Chain
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.weights.formats import huggingface
from tests.judges import random_weights
from tests.weights import checkpoints

TEXT = "the old cat sat on the mat and the young dog ran to the red barn\n" * 8
FOUR_STAGES = """
[[stage]]
[stage.model]
weights = "{inputs}/m"
dropout = 0.1
[stage.lora]
r = 2
[stage.train]
seq_length = 8
batch_size = 2
steps = 16
save_every = 2
keep = 2
evaluate_every = 8
[stage.task]
kind = "finetune"
data = "{inputs}/text.txt"
eval_data = "{inputs}/text.txt"

[[stage]]
[stage.task]
kind = "convert"
target = "merged"
merge = true

[[stage]]
[stage.train]
seq_length = 8
[stage.task]
kind = "evaluate"
data = "{inputs}/text.txt"

[[stage]]
[stage.task]
kind = "export"
format = "onnx"
target = "graphs"
"""
TIMES = re.compile(
    rb'"(tokens_per_second|mfu|seconds|mtime_ns)": [\d.e-]+,?|speed +[\d,]+ tokens/s|[\d,]+ MB/s'
)
"""What differs from run to run."""
TOLD = ("report.html", "attempts.jsonl")


def files(folder: Path) -> dict[str, bytes]:
    """Return all that a chain has left, without its speeds; of what tells times only the name."""
    paths = {path.relative_to(folder): path for path in folder.rglob("*")}
    return {
        str(name): b"" if path.name in TOLD else TIMES.sub(b"", path.read_bytes())
        for name, path in paths.items()
        if path.is_file() and name.parts[0] not in ("log", "cache")
    }


@attrs.frozen
class ChainFolder:
    """A folder in which a chain runs, with a cache of its own."""

    path: Path
    chain: Path

    def run(self, seconds: float | None = None) -> int:
        """Run the command to its end, or kill all of its processes after some seconds."""
        self.path.mkdir(exist_ok=True)
        with (self.path / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gpt2dsl", "run", str(self.chain)],
                cwd=self.path,
                env={**os.environ, "GPT2DSL_CACHE": str(self.path / "cache")},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                return -signal.SIGKILL
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain that trains adapters, merges, evaluates and exports."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "text.txt").write_text(TEXT)
    tokenizer = Tokenizer.train([TEXT], 280)
    geometry = GPT2Config(layers=2, heads=2, hidden=32, positions=16, vocab=len(tokenizer))
    (folder / "m").mkdir()
    huggingface.write(folder / "m", geometry, random_weights(geometry), tokenizer)
    (folder / "chain.toml").write_text(FOUR_STAGES.format(inputs=folder))
    return folder / "chain.toml"


@pytest.mark.timeout(3600)  # of processes on a machine that may be busy
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.soak)])
def test_a_chain_killed_at_random_moments_ends_with_the_outputs_of_an_undisturbed_one(
    chain: Path, tmp_path: Path, kills: int
) -> None:
    undisturbed = ChainFolder(tmp_path / "undisturbed", chain)
    began = time.monotonic()
    assert undisturbed.run() == 0
    seconds = time.monotonic() - began
    moments = random.Random(kills)
    for number in itertools.count():
        folder = ChainFolder(tmp_path / str(number), chain)
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            moment = moments.uniform(0, seconds) if kills else None
            code = folder.run(moment)
            kills -= code == -signal.SIGKILL
        assert code == 0, (folder.path / "log").read_text()
        assert files(folder.path) == files(undisturbed.path)
        if not kills:
            return


CONVERSIONS = """
[[stage]]
[stage.task]
kind = "convert"
source = "m"
target = "folder"
dtype = "{dtype}"

[[stage]]
[stage.task]
kind = "convert"
source = "m"
target = "m.ckpt"
to = "mindformers"
dtype = "{dtype}"
"""


def convert(folder: str, at: int) -> None:
    """Run the chain of conversions; killed at one write point."""
    os.chdir(folder)
    os.environ["GPT2DSL_CACHE"] = f"{folder}/cache"
    count = itertools.count()

    def point(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)
        changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
        if (writes or changes) and next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(point)
    with Path("log").open("a") as log, redirect_stderr(log):
        Chain.load("chain.toml").plan().run()


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("there", ["nothing", "its targets of other values"])
def test_conversions_killed_at_any_write_need_no_deletion_by_hand(
    tmp_path: Path, there: str, every: int
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gpt2dsl.engine.convert", "gpt2dsl.chain.run", __name__])

    def run(folder: Path, at: int = -1) -> int | None:
        process = context.Process(target=convert, args=(str(folder), at))
        process.start()
        process.join(120)
        return process.exitcode

    before = tmp_path / "before"
    checkpoints.whole(before / "m", GPT2Config(layers=1, heads=1, hidden=4, positions=8, vocab=64))
    (before / "chain.toml").write_text(CONVERSIONS.format(dtype="float16"))
    if there != "nothing":
        assert run(before) == 0
    (before / "chain.toml").write_text(CONVERSIONS.format(dtype="float32"))
    undisturbed = shutil.copytree(before, tmp_path / "undisturbed")
    assert run(undisturbed) == 0
    for at in itertools.count(step=every):
        folder = shutil.copytree(before, tmp_path / "killed")
        code = run(folder, at)
        assert code in (0, -signal.SIGKILL), (folder / "log").read_text()
        again = run(folder)
        assert again == 0, f"after the kill at write {at}: {(folder / 'log').read_text()}"
        assert files(folder) == files(undisturbed), f"after the kill at write {at}"
        shutil.rmtree(folder)
        if code == 0:
            break
    assert at > 20
