"""Which files a folder or a glob takes, and what it passes over."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Data, Model, Recipe, Task, Train
from gpt2dsl.data.source import Source
from gpt2dsl.errors import InputError
from gpt2dsl.plan.plan import Plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what is taken and what is not."""
    made = tmp_path / "d"
    (made / "sub").mkdir(parents=True)
    (made / ".git").mkdir()
    for name in ("a.txt", "sub/b.txt", ".hidden", ".git/c.txt", "notes.md"):
        (made / name).write_text(f"the cat of {name}. ")
    (made / "empty.txt").touch()
    (made / "far.txt").symlink_to(tmp_path / "elsewhere.txt")
    (tmp_path / "elsewhere.txt").write_text("the cat elsewhere")
    (made / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    (made / "loop").symlink_to(made)
    os.mkfifo(made / "pipe")
    return made


def planned(data: str, **form: Any) -> Plan:
    recipe = Model(size="nano") | Train(seq_length=8, batch_size=1) | Data(**form)
    return Recipe.plan(recipe | Task.pretrain(data=data))


def names(paths: Any, folder: Path) -> list[str]:
    return [str(path).replace(f"{folder}/", "") for path in paths]


def test_a_folder_takes_what_lies_below_it_and_says_what_it_passes_over(folder: Path) -> None:
    source = Source.open(str(folder))
    taken = names((file.path for file in source.files), folder)
    assert taken == ["a.txt", "far.txt", "notes.md", "sub/b.txt"]
    passed = dict(zip(names((path for path, _ in source.passed), folder),
                      (why for _, why in source.passed), strict=True))  # fmt: skip
    assert passed == {
        ".git": "hidden",
        ".hidden": "hidden",
        "gone.txt": "a link to nothing",
        "loop": "a link to a folder, which is not followed",
        "pipe": "neither a file nor a folder",
        "empty.txt": "empty",
    }


def test_a_glob_looks_into_no_folder_and_follows_no_loop(folder: Path) -> None:
    source = Source.open(f"{folder}/*")
    taken = names((file.path for file in source.files), folder)
    assert taken == ["a.txt", "far.txt", "notes.md"]
    said = {path.name: why for path, why in source.passed}
    assert said["sub"].startswith("a folder, which a glob does not look into")
    deep = Source.open(f"{folder}/**")
    assert names((f.path for f in deep.files), folder) == [*taken, "sub/b.txt"]
    loops = [path for path, why in deep.passed if why == "a link leads back to a folder above it"]
    assert loops
    assert all("loop" in path.parts for path in loops)


@pytest.mark.parametrize("glob", ["**", "**/*", "sub/**", "*/*.txt"])
def test_folders_whose_files_are_taken_are_not_passed_over(tmp_path: Path, glob: str) -> None:
    (tmp_path / "d" / "sub" / "2024 autumn").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "b.txt").write_text("the cat")
    (tmp_path / "d" / "sub" / "2024 autumn" / "c.txt").write_text("the dog")
    source = Source.open(f"{tmp_path}/d/{glob}")
    assert [file.path.name for file in source.files][-1] == "b.txt"
    assert source.passed == ()


def test_a_deep_glob_says_which_folders_give_nothing(tmp_path: Path) -> None:
    (tmp_path / "d" / "empty").mkdir(parents=True)
    (tmp_path / "d" / "b.txt").write_text("the cat")
    source = Source.open(f"{tmp_path}/d/**")
    why = "a folder of which the glob takes no file"
    assert source.passed == ((tmp_path / "d" / "empty", why),)


def test_the_plan_says_it_in_words_and_as_json(folder: Path) -> None:
    plan = planned(str(folder))
    (data,) = json.loads(plan.to_json_text())["inputs"]
    assert names(data["files"], folder) == [
        "a.txt", f"far.txt -> {folder.parent}/elsewhere.txt", "notes.md", "sub/b.txt",
    ]  # fmt: skip
    assert f"{folder}/empty.txt: empty" in data["passed_over"]
    words = " ".join(str(plan).split()).replace(" ", "")
    assert f"4files:{folder}/a.txt," in words
    assert "and1more" in words
    assert "6passedover:" in words


def test_a_file_that_is_named_is_not_listed_again(folder: Path) -> None:
    plan = planned(str(folder / "a.txt"))
    assert "file" not in str(plan).replace(str(folder), "")
    (data,) = plan.inputs
    assert (data.files, data.passed_over) == ((str(folder / "a.txt"),), ())


def test_what_is_passed_over_leaves_the_digest_as_it_is(folder: Path) -> None:
    before = Source.open(str(folder))
    (folder / "empty.txt").unlink()
    (folder / ".hidden").unlink()
    after = Source.open(str(folder))
    assert before == after
    assert before.digest() == after.digest()


def test_where_nothing_is_left_it_is_said_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(InputError, match=r"there is no text in it; passed over: .*/sub: a folder"):
        Source.open(f"{tmp_path}/*")
    (tmp_path / "sub" / "a.txt").touch()
    with pytest.raises(InputError, match=r"passed over: .*a\.txt: empty"):
        Source.open(str(tmp_path))
    with pytest.raises(InputError, match="G2-301"):
        Source.open(f"{tmp_path}/*.jsonl")
