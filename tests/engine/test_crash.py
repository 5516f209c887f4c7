"""Runs that are killed, or that find the disk full, at any moment."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from safetensors.numpy import load_file

from gpt2dsl import Data, Model, Optim, Runtime, Schedule, Task, Train
from gpt2dsl.cli.main import main
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.rundir import RunDirectory
from gpt2dsl.errors import RunError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import param_specs
from gpt2dsl.weights import store, training_state
from gpt2dsl.weights.formats import huggingface
from tests.engine.conftest import text

ROOT = Path(__file__).parents[2]
FILES = ("model.safetensors", "optimizer.safetensors")
STEPS = 120


class Zygote:
    """A process that has imported everything, and forks a child for each call."""

    SCRIPT = """
import gpt2dsl.engine.train, matplotlib.figure
from tests.engine.test_crash import serve
serve()
"""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def start(
        self, log: Path, call: Callable[..., object], *args: object, seconds: float | None = None
    ) -> int:
        """Begins a call; what it prints goes to ``log``, SIGKILL comes after ``seconds``."""
        assert self._process.stdin
        words = [str(log), call.__name__, args, seconds]
        self._process.stdin.write(json.dumps(words, default=str) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> int:
        """The exit code of what was begun."""
        return self._answer()

    def run(self, *args: Any, **options: Any) -> int:
        """Begins a call and waits for its end."""
        self.start(*args, **options)
        return self.end()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate(timeout=60)

    def _answer(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())


def serve() -> None:
    """What the zygote does."""
    for line in sys.stdin:
        log, name, args, seconds = json.loads(line)
        child = os.fork()
        if child == 0:
            _call(log, globals()[name], args)
        _answer(child)
        _answer(_end_of(child, seconds))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _call(log: str, call: Callable[..., object], args: Sequence[object]) -> NoReturn:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    code: object = 0
    try:
        call(*args)
    except SystemExit as stop:
        code = stop.code
    except BaseException:  # noqa: BLE001  # the test reads it
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 0)


def _end_of(child: int, seconds: float | None) -> int:
    ends = time.monotonic() + (seconds or 0)
    while seconds is not None and time.monotonic() < ends:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    if seconds is not None:
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    found = Zygote()
    yield found
    found.close()


# Every write point


class Counted:
    """The tokenizers library's object, with a point before each of its writes."""

    def __init__(self, inner: Any, point: Callable[[], None]) -> None:
        self._inner, self._point = inner, point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def model(self) -> Counted:
        return Counted(self._inner.model, self._point)

    def save(self, path: str) -> object:
        self._point()
        return self._inner.save(path)


def save(parent: str, number: int, keep: int, at: int) -> None:
    """Saves tensors full of 9; killed at one write point."""
    count = itertools.count()

    def point() -> None:
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    tokenizer = Tokenizer.load(Path(parent) / "vocabulary")
    counted = Tokenizer(Counted(tokenizer._inner, point))
    _count_calls(point)
    _save(Path(parent) / "run", number, 9, counted, keep)


def _count_calls(point: Callable[[], None]) -> None:
    """A point in the middle of each write, and before each other call that changes the disk."""

    class Torn(io.FileIO):
        def write(self, content: Any) -> int:
            view = memoryview(content).cast("B")
            half = super().write(view[: len(view) // 2])
            point()
            return half + super().write(view[half:])

    def audit(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            point()

    def opened(path: Path, mode: str = "r", buffering: int = -1, *args: Any, **kw: Any) -> Any:
        if "w" not in mode:
            return true_open(path, mode, buffering, *args, **kw)
        raw = Torn(path, "wb")
        if buffering == 0:
            return raw
        binary = io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, *args, **kw)

    def fsync(descriptor: int) -> None:
        point()
        true_fsync(descriptor)

    true_open: Callable[..., Any] = Path.open
    true_fsync = os.fsync
    Path.open, os.fsync = opened, fsync  # type: ignore[method-assign,assignment]
    sys.addaudithook(audit)


def _save(parent: Path, number: int, value: int, tokenizer: Tokenizer, keep: int) -> None:
    """What a run does to save; tensors are full of ``value``."""
    geometry = GPT2Config(layers=1, heads=1, hidden=4, positions=8, vocab=len(tokenizer))
    arrays = {t.name: np.full(t.shape, value, np.float32) for t in param_specs(geometry)}
    digests: dict[str, str] = {}
    folder = parent / f"step-{number}"
    with store.writing(folder, {"step": number}, digests, replace=True) as unfinished:
        digests |= huggingface.write(unfinished, geometry, arrays, tokenizer)
        moments = {"m": np.full(300, value, np.float32)}
        digests |= training_state.write(unfinished, moments, {"step": number})
    store.prune(parent, keep)


def _value(folder: Path | None) -> int | None:
    """What a checkpoint's tensors are full of."""
    if folder is None:
        return None
    arrays = [array for name in FILES for array in load_file(folder / name).values()]
    (value,) = {int(x) for array in arrays for x in np.unique(array)}
    return value


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saves") / "vocabulary"
    Tokenizer.train([text(20)], 280).save(folder)
    return folder


@pytest.mark.parametrize(
    ("there", "number", "keep", "left"),
    [
        ((), 1, 2, ["step-1"]),
        ((1,), 2, 2, ["step-1", "step-2"]),
        ((1,), 2, 1, ["step-2"]),
        ((1, 2), 2, 2, ["step-1", "step-2"]),
    ],
    ids=["the first", "the next", "the last one goes", "it is replaced"],
)
def test_a_kill_at_any_write_point_leaves_the_last_checkpoint_or_the_next_one_whole(
    zygote: Zygote,
    vocabulary: Path,
    tmp_path: Path,
    there: tuple[int, ...],
    number: int,
    keep: int,
    left: list[str],
) -> None:
    tokenizer = Tokenizer.load(vocabulary)
    log, parent = tmp_path / "log", vocabulary.with_name("run")
    (tmp_path / "before").mkdir()
    for step in there:
        _save(tmp_path / "before", step, step, tokenizer, keep)
    old, new = (there[-1], there[-1]) if there else (-1, None), (number, 9)
    seen = []
    for at in itertools.count():
        shutil.rmtree(parent, ignore_errors=True)
        shutil.copytree(tmp_path / "before", parent)
        code = zygote.run(log, save, vocabulary.parent, number, keep, at)
        newest = store.newest(parent)
        assert not [name for name in _names(parent) if name.startswith(".")]
        for _, folder in store.steps(parent):
            store.verify(folder)
        seen.append((newest.step, _value(newest.folder)))
        _save(parent, number, 9, tokenizer, keep)
        assert _names(parent) == left, f"after the kill at write point {at}"
        for name in left:
            store.verify(parent / name)
        if code == 0:
            break
        assert code == -signal.SIGKILL, log.read_text()
    assert seen == [old] * seen.count(old) + [new] * seen.count(new)
    assert seen.count(old) > 50
    assert seen.count(new) > 1


# Runs


class Run:
    """A run of the recipe in a folder of its own, its cache too."""

    def __init__(self, zygote: Zygote, folder: Path, recipe: Path) -> None:
        folder.mkdir()
        self._zygote, self.folder, self._recipe = zygote, folder, recipe

    def start(self, seconds: float | None = None) -> int:
        """Begins it, or goes on with it; gives the process."""
        return self._zygote.start(self._log, train, self.folder, self._recipe, seconds=seconds)

    def attempt(self, seconds: float | None = None) -> int:
        """Begins it or goes on with it, until its end or its kill."""
        self.start(seconds)
        return self._zygote.end()

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def directory(self) -> Path | None:
        """The run's, once it is there."""
        return next(iter((self.folder / "runs").glob("*")), None)

    @property
    def metrics(self) -> list[dict[str, float]]:
        """All but the speeds."""
        path = self.directory / "metrics.jsonl" if self.directory else None
        if path is None or not path.exists():
            return []
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [
            {k: v for k, v in line.items() if k not in ("tokens_per_second", "mfu")}
            for line in lines
        ]

    @property
    def steps(self) -> int:
        """That were done."""
        return max((int(line["step"]) for line in self.metrics), default=0)

    @property
    def saved(self) -> int:
        """The newest step whose checkpoint is whole; nothing is swept."""
        folders = store.steps(self.directory / "checkpoints") if self.directory else []
        for _, folder in folders:
            store.verify(folder)
        return max((step for step, _ in folders), default=0)

    @property
    def names(self) -> set[str]:
        """Of all files."""
        assert self.directory
        return {str(path.relative_to(self.directory)) for path in self.directory.rglob("*")}

    @property
    def tensors(self) -> list[bytes]:
        """Of the last step."""
        assert self.directory
        return [(self.directory / f"checkpoints/step-{STEPS}" / n).read_bytes() for n in FILES]


def train(folder: str, recipe: str) -> NoReturn:
    """What ``gpt2dsl run`` does."""
    os.chdir(folder)
    os.environ["GPT2DSL_CACHE"] = f"{folder}/cache"
    sys.argv = ["gpt2dsl", "run", recipe]
    main()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that saves at each step."""
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "train.txt").write_text(text(200))
    recipe = (
        Model(size="nano", layers=1, heads=2, hidden=16, positions=32, dropout=0.1)
        | Data(tokenizer="train", vocab=280)
        | Train(batch_size=2, seq_length=16, steps=STEPS, save_every=1, keep=2, async_save=False)
        | Optim(lr=3e-3)
        | Schedule(kind="cosine", warmup=0.1, end=1e-4)
        | Runtime(output="runs")
        | Task.pretrain(data=str(folder / "train.txt"))
    )
    (folder / "recipe.toml").write_text(recipe.to_toml())
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def in_background(recipe: Path) -> Path:
    """The recipe, which saves in the background."""
    said = recipe.read_text()
    assert "async_save = false\n" in said
    other = recipe.with_name("background") / recipe.name
    other.parent.mkdir()
    other.write_text(said.replace("async_save = false\n", ""))
    return other


@pytest.fixture(scope="module")
def undisturbed(
    zygote: Zygote, recipe: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, float]:
    """A run that nothing disturbs, and the seconds that it takes."""
    run = Run(zygote, tmp_path_factory.mktemp("undisturbed") / "run", recipe)
    started = time.monotonic()
    assert run.attempt() == 0, run.said
    return run, time.monotonic() - started


KILLS = [5, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]


@pytest.mark.parametrize("kills", KILLS)
def test_a_run_killed_at_random_moments_ends_bit_for_bit_where_an_undisturbed_one_does(
    zygote: Zygote, recipe: Path, undisturbed: tuple[Run, float], tmp_path: Path, kills: int
) -> None:
    _check_kills(zygote, recipe, undisturbed, tmp_path, kills, lost=1)


@pytest.mark.parametrize("kills", KILLS)
def test_a_run_that_saves_in_the_background_loses_the_save_under_way_and_nothing_else(
    zygote: Zygote, in_background: Path, undisturbed: tuple[Run, float], tmp_path: Path, kills: int
) -> None:
    _check_kills(zygote, in_background, undisturbed, tmp_path, kills, lost=2)


def _check_kills(
    zygote: Zygote,
    recipe: Path,
    undisturbed: tuple[Run, float],
    tmp_path: Path,
    kills: int,
    *,
    lost: int,
) -> None:
    """That runs killed so often end as one that nothing disturbs; a kill loses so many steps."""
    whole, seconds = undisturbed
    chance = random.Random(kills)
    for number in itertools.count():
        run = Run(zygote, tmp_path / str(number), recipe)
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            before = run.saved
            started = time.monotonic()
            code = run.attempt(chance.uniform(0, seconds) if kills else None)
            if code == 0 and not before:  # The machine may be less busy than it was.
                seconds = min(seconds, time.monotonic() - started)
            kills -= code == -signal.SIGKILL
            _check_start(run.said, before)
            assert run.saved >= max(before, run.steps - lost)
        assert code == 0, run.said
        assert run.tensors == whole.tensors
        assert run.metrics == whole.metrics
        assert run.names == whole.names
        if not kills:
            return


def _check_start(said: str, saved: int) -> None:
    """That it resumed from the newest whole checkpoint, if it lived long enough to say so."""
    assert "passed over" not in said
    resumed = re.search(r"^resumed from .*: step (\d+) of", said, re.MULTILINE)
    if resumed:
        assert int(resumed[1]) == saved
    elif saved:
        assert "compiling" not in said
        assert "training" not in said


def test_a_full_disk_stops_the_run_with_one_line_and_the_old_checkpoints_whole(
    zygote: Zygote, recipe: Path, undisturbed: tuple[Run, float], tmp_path: Path
) -> None:
    run = Run(zygote, tmp_path / "run", recipe)
    process = run.start(seconds=60)
    while run.directory is None or len(store.steps(run.directory / "checkpoints")) < 2:
        time.sleep(0.01)
    room = len(undisturbed[0].tensors[0]) - 1
    resource.prlimit(process, resource.RLIMIT_FSIZE, (room, room))
    assert zygote.end() == 1, run.said
    line = run.said.splitlines()[-1]
    assert re.fullmatch(r".*/step-\d+: it can't be written: File too large \[G2-403\]", line)
    assert "Traceback" not in run.said
    saved = run.saved
    assert 2 <= saved == run.steps - 1
    assert run.attempt() == 0, run.said
    assert f"step {saved} of {STEPS}" in run.said
    assert run.tensors == undisturbed[0].tensors
    assert run.metrics == undisturbed[0].metrics
    assert run.names == undisturbed[0].names


def test_a_full_disk_does_not_stop_a_run_that_saves_in_the_background(
    zygote: Zygote, in_background: Path, undisturbed: tuple[Run, float], tmp_path: Path
) -> None:
    run = Run(zygote, tmp_path / "run", in_background)
    process = run.start(seconds=60)
    while run.directory is None or len(store.steps(run.directory / "checkpoints")) < 2:
        time.sleep(0.01)
    _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
    room = len(undisturbed[0].tensors[0]) - 1
    resource.prlimit(process, resource.RLIMIT_FSIZE, (room, hard))
    while "training goes on" not in run.said:
        time.sleep(0.01)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (hard, hard))
    assert zygote.end() == 0, run.said
    line = re.search(r"^.*training goes on.*$", run.said, re.MULTILINE)
    assert line
    failed = re.fullmatch(
        r".*/step-(\d+): it can't be written: File too large \[G2-403\]; "
        r"training goes on without the checkpoint of step \1",
        line[0],
    )
    assert failed
    assert f"the checkpoint of step {failed[1]} was not written" in run.said
    assert "Traceback" not in run.said
    assert run.saved == run.steps == STEPS
    assert run.tensors == undisturbed[0].tensors
    assert run.metrics == undisturbed[0].metrics


def test_a_vocabulary_that_finds_no_room_in_a_checkpoint_is_said_in_one_line(
    tmp_path: Path,
) -> None:
    tokenizer = Tokenizer.train([text(20)], 280)

    def save() -> None:
        with store.writing(tmp_path / "step-1") as folder:
            (folder / "tokenizer.json").symlink_to("/dev/full")
            tokenizer.save(folder)

    with pytest.raises(RunError, match="step-1: it can't be written: No space left"):
        save()
    assert not list(tmp_path.iterdir())


def test_metrics_that_find_no_room_are_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match="can't be written: No space left"):
        RunDirectory(tmp_path).log(step=1)
