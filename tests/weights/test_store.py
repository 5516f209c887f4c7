from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl.errors import InputError, RunError
from gpt2dsl.weights import store

SCRIPT = """
import os, sys
from pathlib import Path
from gpt2dsl.weights import store

at, final, count = int(sys.argv[1]), Path(sys.argv[2]), 0

def dying(name):
    true = getattr(os, name)
    def call(*args, **options):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), 9)
        return true(*args, **options)
    setattr(os, name, call)

for name in ("fsync", "rename", "mkdir", "unlink", "rmdir"):
    dying(name)
with store.writing(final, {"new": True}, replace=True) as folder:
    (folder / "sub").mkdir()
    for name in ("a", "sub/b"):
        (folder / name).write_text("new " * 10)
print("done")
"""


def write(final: Path, text: str = "text", **options: Any) -> None:
    with store.writing(final, **options) as folder:
        (folder / "sub").mkdir()
        (folder / "a").write_text(text)
        (folder / "sub" / "b").write_text(text)


def test_what_is_written_is_there_whole(tmp_path: Path) -> None:
    meta = {"step": 1}
    with store.writing(tmp_path / "x" / "final", meta) as folder:
        (folder / "a").write_text("text")
        assert not (tmp_path / "x" / "final").exists()
        meta["tokens"] = 2
    store.verify(tmp_path / "x" / "final")
    manifest = store.manifest(tmp_path / "x" / "final")
    assert manifest["meta"] == {"step": 1, "tokens": 2}
    assert manifest["files"]["a"]["size"] == 4
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["final"]


def test_an_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with store.writing(tmp_path / "final") as folder:
            (folder / "a").write_text("text")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_replaced_only_if_said(tmp_path: Path) -> None:
    write(tmp_path / "final", "old")
    with pytest.raises(RunError, match="it is there already"):
        write(tmp_path / "final", "new")
    assert (tmp_path / "final" / "a").read_text() == "old"
    write(tmp_path / "final", "new", replace=True)
    assert (tmp_path / "final" / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir"])
@pytest.mark.parametrize("at", range(1, 8))
def test_a_disk_that_fails_at_any_point_leaves_the_old_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    write(tmp_path / "final", "old")
    true, count = getattr(os, call), 0

    def failing(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return true(*args, **options)

    monkeypatch.setattr(os, call, failing)
    said = ""
    try:
        write(tmp_path / "final", "new", replace=True)
    except RunError as error:
        said = str(error)
    monkeypatch.undo()
    assert said in ("", f"{tmp_path}/final: it can't be written: No space left on device [G2-403]")
    # The parent is there: that it can't be made is no fault.
    assert bool(said) == (count >= at and (call, at) != ("mkdir", 1))
    store.verify(tmp_path / "final")
    # Syncing the renamed folder's parent comes last: what fails there is done already.
    done = not said or (call == "fsync" and at == 6)
    assert (tmp_path / "final" / "a").read_text() == ("new" if done else "old")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from gpt2dsl.errors import RunError
from gpt2dsl.weights import training_state, store

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    with store.writing(Path(sys.argv[1]), replace=True) as folder:
        training_state.write(folder, {"m": np.ones(10_000, np.float32)}, {})
except RunError as error:
    print(error)
"""


def test_tensors_that_find_no_room_leave_the_old_checkpoint_whole(tmp_path: Path) -> None:
    write(tmp_path / "final", "old")
    run = [sys.executable, "-c", FULL, str(tmp_path / "final")]
    said = subprocess.run(run, capture_output=True, check=True, text=True).stdout
    assert said.startswith(f"{tmp_path}/final: it can't be written: ")
    assert said.count("\n") == 1
    store.verify(tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_process_killed_at_any_point_leaves_the_old_or_the_new_checkpoint_whole(
    tmp_path: Path,
) -> None:
    found = []
    for at in range(1, 40):
        folder = tmp_path / str(at)
        write(folder / "step-1", "old " * 10)
        run = [sys.executable, "-c", SCRIPT, str(at), str(folder / "step-1")]
        done = subprocess.run(run, capture_output=True, check=False).stdout == b"done\n"
        newest = store.newest(folder)
        assert newest.folder
        assert not newest.skipped
        found.append((newest.folder / "a").read_text()[:3])
        assert [path.name for path in folder.iterdir()] == ["step-1"]
        if done:
            break
    assert found == sorted(found, reverse=True)
    assert set(found) == {"old", "new"}
    assert done


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "a").write_text("texT"), "a: it is damaged: its checksum"),
        (lambda f: (f / "a").write_text("tex"), "a: it is damaged: 3 bytes, 4 were written"),
        (lambda f: (f / "sub" / "b").unlink(), "sub/b: it is absent, but manifest.json has it"),
        (lambda f: (f / "manifest.json").unlink(), "final: it has no manifest.json"),
        (lambda f: (f / "manifest.json").write_text("{"), "this is no manifest"),
        (lambda f: (f / "manifest.json").write_text("[]"), "this is no manifest"),
        (lambda f: (f / "manifest.json").write_text('{"files": {"a": 1}}'), "is no manifest"),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff"), "this is no manifest"),
    ],
)
def test_damage_is_found_and_named(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    write(tmp_path / "final")
    damage(tmp_path / "final")
    with pytest.raises(InputError, match=said) as caught:
        store.verify(tmp_path / "final")
    assert caught.value.faults[0].code == "G2-304"


def test_an_absent_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="G2-301"):
        store.verify(tmp_path / "nowhere")


def test_newest_goes_by_number_and_passes_over_what_is_damaged(tmp_path: Path) -> None:
    assert store.newest(tmp_path / "nowhere") == store.Newest()
    for step in (9, 10, 100):
        write(tmp_path / f"step-{step}")
    (tmp_path / "step-200").mkdir()
    (tmp_path / "step-best").mkdir()
    (tmp_path / "step-300").write_text("a file")
    (tmp_path / "step-100" / "a").write_text("damaged")
    newest = store.newest(tmp_path)
    assert (newest.step, newest.folder) == (10, tmp_path / "step-10")
    assert [error.faults[0].key for error in newest.skipped] == [
        str(tmp_path / "step-200"),
        str(tmp_path / "step-100" / "a"),
    ]


def test_prune_keeps_the_newest_whole_ones(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        write(tmp_path / f"step-{step}")
    (tmp_path / "step-10" / "a").unlink()
    (tmp_path / "other").mkdir()
    store.prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "other", "step-10", "step-11", "step-9",
    ]  # fmt: skip


def test_the_manifest_is_ours_to_read_by_others(tmp_path: Path) -> None:
    write(tmp_path / "final")
    manifest = json.loads((tmp_path / "final" / "manifest.json").read_text())
    assert set(manifest) == {"gpt2dsl", "meta", "files"}
    moved = shutil.copytree(tmp_path / "final", tmp_path / "elsewhere")
    store.verify(moved)
