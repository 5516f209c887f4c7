"""What check and plan refuse of data: what one of them refuses, the other does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import (
    Classifier,
    Data,
    InputError,
    Model,
    Parallel,
    Recipe,
    Schedule,
    SpecError,
    Task,
    Train,
)
from gpt2dsl.engine.prepare import opened

FIELDS = {"code", "origin", "key", "message", "meant"}
"""Fields of a fault in plan.json."""

NANO = Model(size="nano") | Train(batch_size=4, seq_length=32)


def written(folder: Path, name: str, content: str = "the cat sat\n" * 100) -> str:
    path = folder / name
    path.write_text(content)
    return str(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.jsonl", 'say data.format = "jsonl"'),
        ("X.CSV", 'say data.format = "csv"'),
        ("x.tsv", 'say data.format = "tsv"'),
        ("x.ndjson", 'say data.format = "jsonl"'),
        ("x.json", "no format here reads .json files"),
        ("x.mindrecord", 'say data.format = "mindrecord"'),
        ("x.mindrecord3", 'say data.format = "mindrecord"'),
        ("x.parquet", "no format here reads .parquet files"),
        ("x.txt.gz", "no format here reads .gz files"),
    ],
)
@pytest.mark.parametrize("in_folder", [False, True])
def test_a_file_of_another_format_by_its_name_is_text_only_where_that_is_said(
    tmp_path: Path, name: str, words: str, in_folder: bool
) -> None:
    path = written(tmp_path, name)
    recipe = NANO | Task.pretrain(data=str(tmp_path) if in_folder else path)
    (fault,) = recipe.faults()
    assert fault.code == "G2-310"
    assert f"{name} is no plain text by its name: {words}" in fault.message
    assert recipe.plan().refusals() == (fault,)
    as_text = recipe | Data(format="text")
    assert as_text.faults() == ()
    assert as_text.plan().digest == recipe.plan().digest
    again = Recipe.from_toml(as_text.to_toml())
    assert again.faults() == ()


def test_a_file_in_a_folder_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "chats" / "2024 autumn").mkdir(parents=True)
    path = written(tmp_path / "chats" / "2024 autumn", "nov.ndjson")
    for data in (f"{tmp_path}/chats", f"{tmp_path}/chats/**"):
        (fault,) = (NANO | Task.pretrain(data=data)).faults()
        words = f'{path} is no plain text by its name: say data.format = "jsonl"; data.format ='
        assert fault.message.startswith(words)
    (fault,) = (NANO | Task.pretrain(data=path)).faults()
    assert fault.message.startswith("nov.ndjson is no plain text by its name: say")


def test_files_of_several_formats_are_told_as_that(tmp_path: Path) -> None:
    jsonl, note = (written(tmp_path, name) for name in ("a.jsonl", "b.md"))
    (fault,) = (NANO | Task.pretrain(data=str(tmp_path))).faults()
    assert fault.message.startswith(
        f"{jsonl} is no plain text by its name: {note} is text, and one format is that of all "
        "files: name those of one; data.format ="
    )


CSV = "text,label\n" + "the cat sat on the mat,good\n" * 100
JSONL = '{"text": "the cat sat on the mat", "label": "good"}\n' * 100


@pytest.mark.parametrize(
    ("data", "eval_data", "form", "key", "said"),
    [
        (("r.csv", CSV), ("h.jsonl", JSONL), "csv", "task.eval_data", ("jsonl", "csv")),
        (("r.csv", CSV), ("held", JSONL), "csv", "task.eval_data", ("jsonl", "csv")),
        (("r.txt", CSV), ("h.jsonl", JSONL), "csv", "task.eval_data", ("jsonl", "csv")),
        (("r.jsonl", JSONL), ("h.csv", CSV), "jsonl", "task.eval_data", ("csv", "jsonl")),
        (("r.jsonl", JSONL), ("h.txt", CSV), "jsonl", "task.eval_data", ("text", "jsonl")),
        (("r.jsonl", JSONL), ("h.csv", CSV), "csv", "task.data", ("jsonl", "csv")),
        (("r.txt", "a cat " * 99), ("h.jsonl", JSONL), "", "task.eval_data", ("jsonl", "text")),
        (("r.jsonl", JSONL), ("h.txt", "a cat " * 99), "", "task.data", ("jsonl", "text")),
    ],
)
def test_data_of_two_formats_is_told_as_that(
    tmp_path: Path,
    data: tuple[str, str],
    eval_data: tuple[str, str],
    form: str,
    key: str,
    said: tuple[str, str],
) -> None:
    paths = {"task.data": written(tmp_path, *data), "task.eval_data": written(tmp_path, *eval_data)}
    recipe = NANO | Task.pretrain(data=paths["task.data"], eval_data=paths["task.eval_data"])
    (fault,) = (recipe | Data(format=form) if form else recipe).faults()
    assert (fault.code, fault.key) == ("G2-310", f"{key} = {paths[key]}")
    (beside,) = paths.keys() - {key}
    assert fault.message == (
        f"it looks like {said[0]}, but {beside} ({paths[beside]}) is {said[1]}, and one "
        f"data.format is that of both: write {paths[key]} as {said[1]} too"
    )


def test_where_both_are_of_another_format_that_format_is_told(tmp_path: Path) -> None:
    paths = [written(tmp_path, name, JSONL) for name in ("r.jsonl", "h.jsonl")]
    recipe = NANO | Task.pretrain(data=paths[0], eval_data=paths[1])
    for form in (Recipe(), Recipe(Data(format="csv"))):
        faults = (recipe | form).faults()
        assert len(faults) == 2
        assert all('say data.format = "jsonl"' in fault.message for fault in faults)


@pytest.mark.parametrize("empty", [False, True])
def test_data_that_is_absent_has_no_format_to_follow(tmp_path: Path, *, empty: bool) -> None:
    data = written(tmp_path, "mistyped.txt", "") if empty else str(tmp_path / "mistyped.txt")
    recipe = NANO | Task.pretrain(data=data, eval_data=written(tmp_path, "h.jsonl", JSONL))
    absent, other = recipe.faults()
    refusals = [item["refusals"] for item in recipe.plan().to_json()["inputs"]]
    assert all(set(fault) == FIELDS for (fault,) in refusals)
    assert (absent.code, absent.key) == ("G2-302" if empty else "G2-301", f"task.data = {data}")
    assert (other.code, other.key.split()[0]) == ("G2-310", "task.eval_data")
    assert 'h.jsonl is no plain text by its name: say data.format = "jsonl";' in other.message


def test_where_neither_is_in_the_format_each_is_told_its_own_fault(tmp_path: Path) -> None:
    paths = [written(tmp_path, name) for name in ("r.txt", "h.txt")]
    recipe = NANO | Data(format="jsonl") | Task.pretrain(data=paths[0], eval_data=paths[1])
    faults = recipe.faults()
    assert [fault.code for fault in faults] == ["G2-309"] * 2
    assert "it is not JSON: Expecting value at column 1; " in faults[0].message


def test_the_text_of_the_package_is_held_out_beside_any_format(tmp_path: Path) -> None:
    recipe = NANO | Task.pretrain(data=written(tmp_path, "r.csv", CSV), eval_data="sample:valid")
    assert (recipe | Data(format="csv")).faults() == ()
    (fault,) = recipe.faults()
    assert 'say data.format = "csv"' in fault.message


@pytest.mark.parametrize("name", ["x.txt", "x.md", "wiki.train.tokens", "x", "x.py"])
def test_other_names_are_plain_text(tmp_path: Path, name: str) -> None:
    assert (NANO | Task.pretrain(data=written(tmp_path, name))).faults() == ()


def test_text_that_fills_no_batch_is_refused_before_it_is_tokenised(tmp_path: Path) -> None:
    recipe = NANO | Task.pretrain(data=written(tmp_path, "x", "a" * 60))
    (fault,) = recipe.faults()
    assert fault.code == "G2-305"
    words = "too short: at most 3 rows of 33 tokens do not fill a batch of 4"
    assert fault.message == words
    assert recipe.plan().refusals() == (fault,)
    assert recipe.replace(Train(batch_size=3, seq_length=32)).faults() == ()


def test_check_counts_rows_that_were_counted_before(tmp_path: Path) -> None:
    recipe = NANO | Task.pretrain(data=written(tmp_path, "x"))
    batches = recipe.plan(prepare=True).batches
    assert batches
    assert batches.rows
    rows = batches.rows
    too_large = recipe.replace(Train(batch_size=rows + 1, seq_length=32))
    (fault,) = too_large.faults()
    assert f"too short: {rows} rows of 33 tokens" in fault.message
    assert too_large.plan().refusals() == (fault,)


def test_a_tokenizer_that_is_not_there_is_one_fault_of_its_recipe(tmp_path: Path) -> None:
    recipe = NANO | Data(tokenizer="nowhere") | Task.pretrain(data=written(tmp_path, "x"))
    (fault,) = recipe.faults()
    assert fault.key == "data.tokenizer = nowhere"
    assert fault.origin.startswith("tests/plan/test_data.py:")
    assert recipe.plan().refusals() == (fault,)


def test_check_refuses_what_no_plan_can_be_made_of(tmp_path: Path) -> None:
    data = Task.pretrain(data=written(tmp_path, "x"))
    no_layout = NANO | Parallel(devices=7) | data
    all_warmup = NANO.replace(Train(batch_size=4, seq_length=32, epochs=1)) | data
    all_warmup.plan(prepare=True)
    for recipe in (no_layout, all_warmup | Schedule(warmup=1000)):
        with pytest.raises(SpecError) as refused:
            recipe.plan()
        assert recipe.faults() == refused.value.faults


def test_commands_without_a_recipe_refuse_such_a_file_too(tmp_path: Path) -> None:
    words: dict[str, Any] = {
        "text_column": "text", "header": True, "quotes": True, "max_bad_rows": 0,
    }  # fmt: skip
    name = written(tmp_path, "x.jsonl", '{"text": "a"}\n')
    with pytest.raises(InputError, match="say --format jsonl; --format text reads it as it is"):
        opened(name, form=None, **words)
    assert opened(name, form="text", **words).form.format == "text"
    assert list(opened(name, form="jsonl", **words).documents()) == ["a"]


def test_rows_that_are_passed_over_are_notes_of_the_plan(tmp_path: Path) -> None:
    rows = ['{"text": "the cat sat on the mat"}\n'] * 2000
    rows[1500] = "{\n"
    path = written(tmp_path, "x.jsonl", "".join(rows))
    recipe = NANO | Data(format="jsonl", max_bad_rows=3) | Task.pretrain(data=path, eval_data=path)
    words = f"passes over what can't be used: {path}:1501: "
    notes = [note for note in recipe.plan().notes if words in note]
    assert [note.split()[0] for note in notes] == ["task.data", "task.eval_data"]
    (fault,) = (NANO | Data(format="jsonl") | Task.pretrain(data=path)).faults()
    assert (fault.code, f"{path}:1501" in fault.message) == ("G2-309", True)


@pytest.mark.parametrize("classifies", [False, True])
def test_quotes_that_enclose_rows_are_a_note_of_the_plan_and_told_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    classifies: bool,
) -> None:
    monkeypatch.setenv("GPT2DSL_CACHE", str(tmp_path / "cache"))
    path = written(
        tmp_path, "q1.tsv", 'text\tlabel\n"Oh\t1\nno\t0\nyes"\t1\n' + "cat sat\t0\n" * 300
    )
    recipe = NANO | Data(format="tsv") | Task.pretrain(data=path, eval_data=path)
    plan = (recipe | Classifier(labels=2) if classifies else recipe).plan()
    words = f"{path}:2: quotes enclose 3 lines and their tabs as one value; data.quotes = false"
    for made in (plan, plan.prepared()):
        assert [note.startswith(words) for note in made.notes if "quotes" in note] == [True]
    assert "quotes enclose" not in capsys.readouterr().err
    assert "enclosed" not in plan.to_json()["inputs"][0]
    source = opened(path, form="tsv", text_column="text", header=True, quotes=True, max_bad_rows=0)
    assert len(list(source.documents())) == 301
    assert "one value; --no-quotes reads quotes as plain text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "form", "more"),
    [
        ("text,label\n", {"format": "csv"}, "; its first row is the header, unless data.header ="),
        ("\n\n", {"format": "tsv", "header": False, "text_column": 0}, ""),
        ("{\n[\n", {"format": "jsonl", "max_bad_rows": 2}, ""),
    ],
)
@pytest.mark.parametrize("classifies", [False, True])
def test_a_table_without_a_usable_row_is_refused_before_anything_starts(
    tmp_path: Path, content: str, form: dict[str, Any], more: str, *, classifies: bool
) -> None:
    path = written(tmp_path, "x", content)
    data = Data(**form, label_column=1 if "text_column" in form else "label")
    recipe = NANO | data | Task.pretrain(data=path)
    (fault,) = (recipe | Classifier(labels=2) if classifies else recipe).faults()
    assert (fault.code, fault.key) == ("G2-302", f"task.data = {path}")
    assert fault.message.startswith(f"there is no usable row in it{more}")


def test_of_a_large_table_rows_may_follow_the_bad_ones_that_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt2dsl.plan.inputs.SMALL", 0)
    rows = "{\n" * 1500 + '{"text": "the cat sat"}\n' * 2000
    path = written(tmp_path, "x.jsonl", rows)
    assert not (NANO | Data(format="jsonl", max_bad_rows=1500) | Task.pretrain(data=path)).faults()


def test_a_large_table_is_looked_at_in_part_and_by_a_run_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt2dsl.plan.inputs.SMALL", 0)
    monkeypatch.setenv("GPT2DSL_CACHE", str(tmp_path / "cache"))
    path = written(tmp_path, "x.jsonl", '{"text": "the cat sat"}\n' * 2000 + "{\n")
    data = Data(format="jsonl", max_bad_rows=1, tokenizer="train", vocab=300)
    recipe = NANO | data | Task.pretrain(data=path)
    assert not any("passes over" in note for note in recipe.plan().notes)
    for _ in range(2):  # the second reads the text's tokens from the cache
        assert any(f"{path}:2001" in note for note in recipe.plan().prepared().notes)


def test_a_vocabulary_that_stays_smaller_than_it_was_to_be_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT2DSL_CACHE", str(tmp_path / "cache"))
    path = written(tmp_path, "x.txt")
    recipe = NANO | Data(tokenizer="train", vocab=500) | Task.pretrain(data=path)
    words = "data.vocab = 500, but the text gives 264 entries"
    assert not any(words in note for note in recipe.plan().notes)
    assert any(words in note for note in recipe.plan().prepared().notes)
    assert any(words in note for note in recipe.plan().notes)
