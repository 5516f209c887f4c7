"""The task reshard, and runs that go on from what it wrote."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Generation, Model, Optim, Parallel, Recipe, Runtime, Task, Train
from gpt2dsl.engine.job import Result
from gpt2dsl.errors import SpecError
from gpt2dsl.schema.folder import CONFIG, GENERATION, STRATEGY, WEIGHTS
from gpt2dsl.weights import store
from gpt2dsl.weights.files import tensorfile
from tests.engine.conftest import text
from tests.engine.layouts import ALONE, Runs, write_weights
from tests.weights import checkpoints
from tests.weights.checkpoints import equal, values


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.whole(tmp_path_factory.mktemp("source") / "step-3")


@pytest.fixture(scope="module")
def split(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight ranks, with the optimizer's state."""
    target = tmp_path_factory.mktemp("split") / "there"
    reshard(source, target, Parallel(dp=2, mp=2, pp=2, optimizer_shard=True), optimizer=True)
    return target


def reshard(source: Path, target: Path, layout: Parallel, **keys: Any) -> Result:
    task = Task.reshard(source=str(source), target=str(target), layout=layout, **keys)
    return Recipe(task).plan().run()


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_goes_to_ranks_and_comes_back_with_its_optimizer(
    source: Path, split: Path, tmp_path: Path
) -> None:
    assert [name for name in entries(split) if name.startswith("rank_")] == [
        f"rank_{i}" for i in range(8)
    ]
    for rank in range(8):
        assert entries(split / f"rank_{rank}") == [WEIGHTS]
        assert (split / STRATEGY / f"ckpt_strategy_rank_{rank}.ckpt").exists()
    store.verify(split)
    result = reshard(split, tmp_path / "back", ALONE, optimizer=True)
    equal(values(tmp_path / "back"), values(source))
    assert result.digest == store.manifest(split)["meta"]["digest"]
    assert (tmp_path / "back" / "state.json").read_text() == (source / "state.json").read_text()


def test_without_the_optimizer_a_whole_target_is_what_convert_writes(
    split: Path, source: Path, tmp_path: Path
) -> None:
    reshard(split, tmp_path / "whole", ALONE)
    Recipe(Task.convert(source=str(source), target=str(tmp_path / "hf"))).plan().run()
    assert entries(tmp_path / "whole") == entries(tmp_path / "hf")
    recorded = {store.recorded(path)["digest"] for path in (split, *tmp_path.iterdir())}
    assert len(recorded) == 1
    for name in (WEIGHTS, CONFIG, GENERATION):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "hf" / name).read_bytes()


def test_the_plan_says_what_is_written_to_the_byte(source: Path, tmp_path: Path) -> None:
    layout = Parallel(dp=2, mp=2, optimizer_shard=True)
    task = Task.reshard(
        source=str(source), target=str(tmp_path / "a"), layout=layout, optimizer=True
    )
    plan = Recipe(task).plan()
    assert plan.written
    assert "4 ranks, a file each" in str(plan)
    assert plan.run().size == plan.written.size
    files = (tmp_path / "a").glob(f"rank_*/{WEIGHTS}")
    held = [one.size for file in files for one in tensorfile.stored(file).values()]
    assert sum(held) == plan.written.size


def test_what_can_not_be_is_told_before_anything_is_written(
    source: Path, split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(source: Path, layout: Parallel, **keys: Any) -> str:
        with pytest.raises(SpecError) as error:
            reshard(source, tmp_path / "t", layout, **keys)
        assert not list(tmp_path.iterdir())
        (fault,) = error.value.faults
        return str(fault)

    assert "mp: 3 does not divide" in refusal(source, Parallel(mp=3))
    assert "pp: 6 stages can't share 5 layers" in refusal(source, Parallel(pp=6))
    assert "recompute changes no file" in refusal(source, Parallel(mp=2, recompute="full"))
    assert "it is whole, not split" in refusal(source, ALONE, source_layout=Parallel(mp=2))
    for named in (Parallel(mp=2), Parallel(dp=8), Parallel(dp=4, pp=2), Parallel(mp=4, pp=2)):
        said = refusal(split, ALONE, source_layout=named)
        assert "it is of 8 ranks, 2 stages of 2x2, and dp=" in said
    inside = Recipe(Task.reshard(source=str(source), target=str(source / "t"), layout=ALONE))
    with pytest.raises(SpecError, match="it lies in the source"):
        inside.plan()
    with pytest.raises(SpecError, match="is there already"):
        reshard(source, split, ALONE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: (9, 9, 1000))
    assert "has room for 0.0: make room, or name a target on another disk [G2-308]" in refusal(
        source, Parallel(mp=2)
    )


def test_weights_alone_have_no_optimizer(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "weights")
    with pytest.raises(SpecError, match="holds no state of a training") as error:
        reshard(weights, tmp_path / "t", Parallel(mp=2), optimizer=True)
    assert "task.optimizer" in str(error.value)


def test_ranks_of_its_own_are_no_way_to_reshard(source: Path, tmp_path: Path) -> None:
    task = Task.reshard(source=str(source), target=str(tmp_path / "t"), layout=Parallel(mp=2))
    with pytest.raises(SpecError, match=r"the target's layout is task\.layout"):
        (task | Parallel(mp=2)).plan()


def damaged(folder: Path, what: str) -> str:
    """A fault of a split checkpoint, and what is said of it."""
    file = folder / "rank_3" / WEIGHTS
    if what == "rank":
        shutil.rmtree(file.parent)
        return "rank_3/model.safetensors: it is absent, but manifest.json has it"
    if what == "short":
        os.truncate(file, file.stat().st_size - 5)
        return "rank_3/model.safetensors: it is damaged: "
    if what == "bit":  # in the first copy, which is the one that is read
        file = folder / "rank_1" / WEIGHTS
        content = bytearray(file.read_bytes())
        content[8 + int.from_bytes(content[:8], "little") + 50] ^= 1
        file.write_bytes(content)
        return "rank_1/model.safetensors: it is damaged: its checksum is not the written"
    if what == "generation":
        other = folder / GENERATION
        other.write_text(" " * other.stat().st_size)
        return "generation_config.json: it is damaged: its checksum is not the written"
    if what == "strategy":
        (folder / STRATEGY / "ckpt_strategy_rank_3.ckpt").write_bytes(b"")
        return "ckpt_strategy_rank_3.ckpt: it is damaged: 0 bytes"
    shutil.copy(file, file.with_name("more.safetensors"))
    return "rank_3: it holds 2 checkpoints, one is expected: model.safetensors, more.safetensors"


@pytest.mark.parametrize("what", ["rank", "short", "bit", "generation", "strategy", "two files"])
def test_a_damaged_checkpoint_of_ours_is_refused_with_its_file(
    split: Path, tmp_path: Path, what: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(split, copy)
    expected = damaged(copy, what)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(SpecError) as error:
        reshard(copy, tmp_path / "t", ALONE)
    assert expected in str(error.value)
    assert len(error.value.faults) == 1
    assert entries(tmp_path) == ["copy"]
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


COMMAND = [sys.executable, "-m", "gpt2dsl", "reshard"]


def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    """A limit on the size of files, which the kernel holds as it holds that of a disk."""
    limit = 20_000
    done = subprocess.run(
        [*COMMAND, str(source), str(tmp_path / "t"), "--to", "mp=2"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / 't'}: it can't be written: File too large" in done.stderr
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from gpt2dsl.weights.files import hashing
written = 0
class Killed(hashing.HashedFile):
    def write(self, block):
        global written
        written += 1
        if written == 60:
            os.kill(os.getpid(), signal.SIGKILL)
        super().write(block)
hashing.HashedFile = Killed
from gpt2dsl.cli.main import main
main()
"""


def test_a_kill_half_way_leaves_the_source_and_nothing_under_the_name(
    source: Path, tmp_path: Path
) -> None:
    before = values(source)
    words = ["reshard", str(source), str(tmp_path / "t"), "--to", "dp=2,mp=2"]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
    assert done.returncode == -signal.SIGKILL
    assert entries(tmp_path)[0].startswith(".t.tmp-")
    equal(values(source), before)
    subprocess.run([sys.executable, "-m", "gpt2dsl", *words], check=True, capture_output=True)
    assert entries(tmp_path) == ["t"]
    store.verify(tmp_path / "t")


def test_the_command_takes_layouts_as_keys_and_values(source: Path, tmp_path: Path) -> None:
    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, words)], capture_output=True, text=True, check=False
        )

    done = run(source, tmp_path / "a", "--to", "dp=2,mp=2,optimizer_shard=true", "--optimizer")
    assert done.returncode == 0, done.stderr
    assert f"wrote       {tmp_path / 'a'}\n" in done.stdout
    assert "weights     xxh3 " in done.stdout
    shutil.rmtree(tmp_path / "a" / STRATEGY)
    (tmp_path / "a" / store.MANIFEST).unlink()
    failed = run(tmp_path / "a", tmp_path / "b", "--to", "dp=1")
    assert failed.returncode == 2
    assert "it is split over 4 ranks, and nothing says how" in failed.stderr
    done = run(
        tmp_path / "a", tmp_path / "b", "--from", "dp=2,mp=2,optimizer_shard=true", "--to", "dp=1",
        "--optimizer", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["target"] == str(tmp_path / "b")
    equal(values(tmp_path / "b"), values(source))
    wrong = run(source, tmp_path / "c", "--to", "mp:2")
    assert wrong.returncode == 2
    assert (
        "expected dp=2,mp=4,pp=1 or some of them, optimizer_shard=true; found 'mp:2'"
        in wrong.stderr
    )


def test_evaluation_and_generation_take_a_split_checkpoint_as_they_take_a_whole_one(
    tmp_path: Path,
) -> None:
    weights = write_weights(tmp_path / "weights")
    reshard(weights, tmp_path / "split", Parallel(mp=2, pp=2))
    data = tmp_path / "data.txt"
    data.write_text(text(40, start=1000))
    common = (
        Train(batch_size=4, seq_length=32)
        | Generation(max_new_tokens=8)
        | Runtime(output=str(tmp_path / "runs"))
    )
    found = []
    for name in ("weights", "split"):
        recipe = common | Model(weights=str(tmp_path / name))
        loss = (recipe | Task.evaluate(data=str(data))).plan().run().loss
        texts = (recipe | Task.generate(prompts=("the old cat",))).plan().run().texts
        found.append((loss, texts))
    assert found[0] == found[1]


@pytest.mark.soak
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_training_goes_on_under_another_layout_as_the_undisturbed_one(
    tmp_path: Path, dropout: float
) -> None:
    runs = Runs(tmp_path)

    def recipe(parallel: Parallel) -> Recipe:
        train = Train(batch_size=8, seq_length=32, steps=10, save_every=5, evaluate_every=5)
        # Adam divides by the root of tiny moments: a small rate keeps last digits apart from losses
        found = runs.recipe("all", parallel).replace(train, Optim(lr=1e-3))
        return found.set("model.dropout", dropout)

    first = runs.run(recipe(Parallel(dp=2, mp=2, micro_batches=2, optimizer_shard=True)))
    assert first.result.directory
    middle = first.result.directory / "checkpoints" / "step-5"
    reshard(middle, tmp_path / "split", Parallel(pp=2), optimizer=True)
    resumed = recipe(Parallel(pp=2, micro_batches=2)).set("train.resume", str(tmp_path / "split"))
    second = runs.run(resumed.set("runtime.output", str(tmp_path / "after")))
    alone = runs.run(recipe(ALONE))
    assert len(second.losses) == 5
    assert first.losses[:5] + second.losses == pytest.approx(alone.losses, rel=1e-5)
    after, undisturbed = (one.metrics("eval_loss")[-1] for one in (second, alone))
    assert after == pytest.approx(undisturbed, rel=1e-5)


@pytest.mark.parametrize("keeps_manifest", [True, False])
@pytest.mark.parametrize("is_shared", [True, False])
def test_the_strategy_of_another_sharing_of_the_optimizer_is_refused(
    source: Path, tmp_path: Path, *, keeps_manifest: bool, is_shared: bool
) -> None:
    folders = {}
    for zero in (True, False):
        folders[zero] = tmp_path / f"zero {zero}"
        reshard(source, folders[zero], Parallel(dp=2, optimizer_shard=zero), optimizer=True)
    mine, other = folders[is_shared], folders[not is_shared]
    keys = {"source_strategy": str(other / STRATEGY)}
    if not keeps_manifest:
        (mine / store.MANIFEST).unlink()
        shutil.rmtree(mine / STRATEGY)
        shutil.copytree(other / STRATEGY, mine / STRATEGY)
        keys = {}
    with pytest.raises(SpecError, match="the strategy is not of these files"):
        reshard(mine, tmp_path / "t", ALONE, optimizer=True, **keys)
    assert not (tmp_path / "t").exists()


def test_a_file_in_another_ranks_folder_is_refused_without_a_manifest_too(
    split: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(split, copy)
    (copy / store.MANIFEST).unlink()
    files = [copy / f"rank_{i}" / WEIGHTS for i in (0, 1)]
    files[0].rename(tmp_path / "first")
    files[1].rename(files[0])
    (tmp_path / "first").rename(files[1])
    with pytest.raises(SpecError, match="it is the file of rank 1, and lies in rank_0"):
        reshard(copy, tmp_path / "t", ALONE)


def test_weights_that_are_not_those_of_the_recorded_digest_are_not_written(
    split: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(split, copy)
    manifest = json.loads((copy / store.MANIFEST).read_text())
    manifest["meta"]["digest"] = "0" * 32
    (copy / store.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(SpecError, match="0" * 32 + " is recorded"):
        reshard(copy, tmp_path / "t", ALONE)
    assert entries(tmp_path) == ["copy"]


def test_a_state_that_says_no_step_is_refused(split: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(split, copy)
    (copy / store.MANIFEST).unlink()
    (copy / "state.json").write_text("{}")
    with pytest.raises(SpecError, match=r"state\.json: it does not say step and updates"):
        reshard(copy, tmp_path / "t", ALONE, optimizer=True)


def test_the_optimizers_file_has_the_same_bytes_after_any_layout(
    source: Path, split: Path, tmp_path: Path
) -> None:
    reshard(split, tmp_path / "back", ALONE, optimizer=True)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
