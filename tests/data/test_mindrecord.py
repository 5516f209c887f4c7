from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np
import pytest
from click.testing import CliRunner
from mindspore.mindrecord import FileWriter

from gpt2dsl import Data, Model, Recipe, Runtime, SpecError, Task, Train
from gpt2dsl.cli.main import cli
from gpt2dsl.data import mindrecord
from gpt2dsl.data.form import DataFormat
from gpt2dsl.data.rows import LEFT_OUT
from gpt2dsl.data.source import Source
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.data.tokens import stream
from gpt2dsl.errors import InputError

SCHEMA = {name: {"type": "int32", "shape": [-1]} for name in mindrecord.FIELDS}
FORM = DataFormat(format="mindrecord")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "a.jsonl"
    lines = [json.dumps({"text": f"The cat {i} sat on the mat. " * 9}) for i in range(60)]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def tokenizer(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "words"
    words = ["tokenizer", "train", str(texts), str(folder), "--vocab", "300", "--format", "jsonl"]
    found = CliRunner().invoke(cli, words)
    assert "300 entries" in found.output
    return folder


def prepare(texts: Path, target: Path, tokenizer: Path, *words: str) -> dict[str, Any]:
    command = [
        "data", "prepare", str(texts), str(target), "--format", "jsonl", "--seq-length", "32",
        "--tokenizer", str(tokenizer), "--json", *words,
    ]  # fmt: skip
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def plain(folder: Path) -> list[dict[str, np.ndarray]]:
    """What a plain script reads, all shards in order."""
    names = sorted(str(path) for path in folder.glob("*.mindrecord"))
    rows = ds.MindDataset(names, shuffle=False, num_parallel_workers=1)
    return list(rows.create_dict_iterator(num_epochs=1, output_numpy=True))


@pytest.mark.parametrize("shards", ["1", "3"])
def test_what_is_written_is_read_by_a_plain_script(
    texts: Path, tokenizer: Path, tmp_path: Path, shards: str
) -> None:
    said = prepare(texts, tmp_path / "out", tokenizer, "--shards", shards)
    rows = plain(tmp_path / "out")
    assert len(rows) == said["rows"]
    assert len(list((tmp_path / "out").glob("*.mindrecord"))) == int(shards)
    tokens = stream(Source.open(str(texts), DataFormat(format="jsonl")), Tokenizer.load(tokenizer))
    assert np.array_equal(
        np.concatenate([row["input_ids"] for row in rows]), tokens[: 33 * len(rows)]
    )
    for row in rows:
        assert all(row[name].dtype == np.int32 for name in mindrecord.FIELDS)
        assert np.array_equal(row["labels"], row["input_ids"])
        assert row["attention_mask"].all()
    back = mindrecord.read(Source.open(str(tmp_path / "out"), FORM))
    assert np.array_equal(back.blocks, [row["input_ids"] for row in rows])
    assert mindrecord.count(Source.open(str(tmp_path / "out"), FORM)) == len(rows)


def test_evaluation_keeps_the_tail_and_masks_what_fills_it(
    texts: Path, tokenizer: Path, tmp_path: Path
) -> None:
    said = prepare(texts, tmp_path / "out", tokenizer, "--evaluation")
    rows = plain(tmp_path / "out")
    assert said["row_tokens"] == 32
    assert sum(int(row["attention_mask"].sum()) for row in rows) == said["tokens"]
    assert not rows[-1]["attention_mask"].all()
    back = mindrecord.read(Source.open(str(tmp_path / "out"), FORM))
    batches = list(back.evaluation_batches(7))
    assert sum(int(mask.sum()) for _, _, mask in batches) == said["tokens"] - len(rows)
    assert all(ids.shape == labels.shape == (7, 31) for ids, labels, _ in batches)
    ids, labels = back.batch([len(rows) - 1])
    real = int(rows[-1]["attention_mask"].sum())
    assert labels[0, : real - 1].tolist() == rows[-1]["input_ids"][1:real].tolist()
    assert (labels[0, real - 1 :] == LEFT_OUT).all()
    assert (ids[0, real:] == 0).all()


def filled(names: Any, row: np.ndarray) -> dict[str, np.ndarray]:
    found = dict.fromkeys(names, row.astype(np.int32))
    return found | {key: np.ones_like(row, np.int32) for key in found if key == "attention_mask"}


def their_file(path: Path, rows: list[np.ndarray], shards: int = 1, **fields: Any) -> None:
    """As MindFormers' tool writes it: one name, the number of the shard behind it."""
    writer = FileWriter(str(path), shards)
    writer.add_schema(fields or SCHEMA, "lm-schema")
    names = fields or SCHEMA
    writer.write_raw_data([filled(names, row) for row in rows])
    writer.commit()


def test_all_shards_of_what_mindformers_writes_are_read(tmp_path: Path) -> None:
    rows = [np.full(5, i) for i in range(20)]
    (tmp_path / "a").mkdir()
    their_file(tmp_path / "a" / "wiki.mindrecord", rows, 4)
    source = Source.open(str(tmp_path / "a"), FORM)
    assert len(source.files) == 4
    assert mindrecord.count(source) == 20
    found = mindrecord.read(source)
    assert sorted(found.blocks[:, 0].tolist()) == list(range(20))


def test_a_recipe_trains_and_evaluates_on_mindrecord_as_on_the_text(
    texts: Path, tokenizer: Path, tmp_path: Path
) -> None:
    prepare(texts, tmp_path / "out", tokenizer)
    base = Recipe(
        Model(size="nano", layers=1, heads=1, hidden=16, positions=64),
        Train(seq_length=32, batch_size=4, steps=3),
        Runtime(output=str(tmp_path / "runs")),
    )
    losses = []
    for data in (
        Data(format="mindrecord", tokenizer=str(tokenizer)),
        Data(format="jsonl", tokenizer=str(tokenizer)),
    ):
        name = tmp_path / "out" if data.format == "mindrecord" else texts
        plan = (base | data | Task.pretrain(data=str(name))).plan(prepare=True)
        assert plan.batches
        assert plan.batches.rows
        result = plan.run()
        losses.append(result.loss)
        task = Task.evaluate(data=str(name))
        again = Recipe(task, Model(weights=str(result.checkpoint)), data, Train(seq_length=32))
        assert again.plan().run().loss == pytest.approx(result.loss, rel=0.3)
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_rows_that_can_not_be_used_are_told(tmp_path: Path) -> None:
    their_file(tmp_path / "a.mindrecord", [np.arange(5), np.arange(6)])
    with pytest.raises(InputError, match="row 1 has 6 tokens, those before it 5"):
        mindrecord.read(Source.open(str(tmp_path / "a.mindrecord"), FORM))
    their_file(tmp_path / "b.mindrecord", [np.arange(5)], text={"type": "int32", "shape": [-1]})
    with pytest.raises(InputError, match="a row has no input_ids, but text"):
        mindrecord.read(Source.open(str(tmp_path / "b.mindrecord"), FORM))
    (tmp_path / "b.mindrecord.db").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"b.mindrecord.db: it is no index of MindRecord"):
        mindrecord.count(Source.open(str(tmp_path / "b.mindrecord"), FORM))
    (tmp_path / "b.mindrecord.db").unlink()
    with pytest.raises(InputError, match="the index of a MindRecord file is not there"):
        mindrecord.count(Source.open(str(tmp_path / "b.mindrecord"), FORM))


def test_ids_that_no_int32_holds_are_told_and_never_wrapped(tmp_path: Path) -> None:
    writer = FileWriter(str(tmp_path / "a.mindrecord"), 1)
    writer.add_schema({name: {"type": "int64", "shape": [-1]} for name in mindrecord.FIELDS}, "a")
    ones = np.ones(5, np.int64)
    ids = ones * (2**32 + 5)
    writer.write_raw_data([{"input_ids": ids, "attention_mask": ones, "labels": ids}])
    writer.commit()
    with pytest.raises(InputError, match="row 0: input_ids has 4294967301 to 4294967301"):
        mindrecord.read(Source.open(str(tmp_path / "a.mindrecord"), FORM))


def test_rows_of_classes_are_no_rows_of_text(tmp_path: Path) -> None:
    writer = FileWriter(str(tmp_path / "a#1.mindrecord"), 1)
    writer.add_schema(SCHEMA, "schema")
    ids = np.arange(5, dtype=np.int32)
    ones = np.ones_like(ids)
    writer.write_raw_data([{"input_ids": ids, "attention_mask": ones, "labels": ids[:1]}])
    writer.commit()
    source = Source.open(str(tmp_path / "a#1.mindrecord"), FORM)
    assert mindrecord.count(source) == 1
    with pytest.raises(InputError, match="row 0 has 1 label for 5 ids: it is a row of a class"):
        mindrecord.read(source)


def test_rows_of_another_length_or_vocabulary_are_told(tmp_path: Path) -> None:
    their_file(tmp_path / "a.mindrecord", [np.arange(9) + 290] * 4)
    recipe = Recipe(
        Model(size="nano", layers=1, heads=1, hidden=8, vocab=290),
        Train(seq_length=16, batch_size=2, steps=1),
        Data(format="mindrecord"),
        Runtime(output=str(tmp_path / "runs")),
        Task.pretrain(data=str(tmp_path / "a.mindrecord")),
    )
    with pytest.raises(SpecError, match="50257 entries"):
        recipe.plan()
    fits = recipe.set("model.vocab", 50257)
    with pytest.raises(InputError, match=r"its rows have 9 tokens; .* = 16 needs 17"):
        fits.plan().run()
    trained = recipe.set("data.tokenizer", "train")
    assert any("holds ids, no text" in fault.message for fault in trained.faults())


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Twelve rows in four shards, as MindSpore itself writes them."""
    writer = FileWriter(str(tmp_path / "wiki.mindrecord"), 4)
    writer.add_schema(SCHEMA, "lm-schema")
    ids = np.arange(12, dtype=np.int32)
    writer.write_raw_data([filled(SCHEMA, ids + row) for row in range(12)])
    writer.commit()
    return tmp_path


def test_one_shard_that_is_named_stands_for_all_of_them(four: Path) -> None:
    named = Source.open(str(four / "wiki.mindrecord2"), FORM)
    assert [file.path.name[-1] for file in named.files] == ["0", "1", "2", "3"]
    assert mindrecord.count(named) == len(mindrecord.read(named)) == 12
    assert named.digest() == Source.open(str(four), FORM).digest()


def test_a_shard_that_is_absent_is_named(four: Path) -> None:
    (four / "wiki.mindrecord1").unlink()
    with pytest.raises(InputError, match=r"mindrecord1: wiki.mindrecord0 was written with it"):
        Source.open(str(four), FORM)


@pytest.mark.parametrize(
    ("size", "said"), [(0, "does not begin"), (5, "does not begin"), (20_000_000, "cut short")]
)
def test_a_shard_that_is_cut_short_is_named_and_mindspore_is_not_asked(
    four: Path, size: int, said: str
) -> None:
    for path in four.glob("*.mindrecord[0-3]"):
        with path.open("r+b") as file:
            file.truncate(size)
    with pytest.raises(InputError, match=said):
        Source.open(str(four), FORM)


def test_text_that_is_called_mindrecord_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.mindrecord").write_text("once upon a time there was a text")
    with pytest.raises(InputError, match=r"a\.mindrecord: it does not begin as a MindRecord file"):
        Source.open(str(tmp_path), FORM)
