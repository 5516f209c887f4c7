"""MindRecord whose labels leave tokens out, or are classes; torch is the judge of losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mindspore.mindrecord import FileWriter
from numpy.typing import NDArray
from transformers import GPT2ForSequenceClassification

from gpt2dsl import (
    Classifier,
    Data,
    InputError,
    Model,
    Optim,
    Parallel,
    Runtime,
    Schedule,
    Task,
    Train,
)
from gpt2dsl.cli.main import cli
from gpt2dsl.errors import SpecError
from tests.vocabularies import END, random_model, vocabulary

Array = NDArray[np.int64]

DATA = Data(format="mindrecord")
LENGTH = 16


def written(path: Path, columns: dict[str, Any], kind: str = "int32") -> str:
    """A file of rows with these columns."""
    writer = FileWriter(str(path), 1)
    writer.add_schema({name: {"type": kind, "shape": [-1]} for name in columns}, "rows")
    rows = zip(*(np.asarray(values, kind) for values in columns.values()), strict=True)
    writer.write_raw_data([dict(zip(columns, row, strict=True)) for row in rows])
    writer.commit()
    return str(path)


def rows(count: int = 6, length: int = LENGTH + 1) -> Array:
    return np.random.default_rng(0).integers(0, 256, (count, length))


def left_out() -> dict[str, Array]:
    """Six rows whose first tokens are a question, each of another length."""
    ids = rows()
    labels = ids.copy()
    for row, size in enumerate((9, 0, 3, 16, 9, 12)):
        labels[row, :size] = -100
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": labels}


def padded() -> dict[str, Array]:
    """Six rows that are padded on the right; labels are the ids, padding included."""
    ids = rows()
    mask = np.ones_like(ids)
    for row, pads in enumerate((0, 2, 5, 8, 10, 12)):
        if pads:
            ids[row, -pads:], mask[row, -pads:] = END, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids}


def others() -> dict[str, Array]:
    """Labels that are other tokens than the ids."""
    ids = rows()
    labels = (ids + 7) % 256
    labels[:, :4] = -100
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": labels}


KINDS = {"left out": left_out, "padded": padded, "other tokens": others}


def loss_of(model: Any, columns: dict[str, Array]) -> tuple[Any, int]:
    """The judge's, over what labels and mask keep; and how many tokens that is."""
    ids, mask, labels = (torch.tensor(values) for values in columns.values())
    labels = torch.where(mask == 1, labels, -100)
    loss = model(ids, attention_mask=mask, labels=labels).loss
    return loss, int((labels[:, 1:] != -100).sum())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("m")
    vocabulary(folder)
    random_model(264).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_is_over_what_labels_and_mask_keep(weights: Path, tmp_path: Path, kind: str) -> None:
    columns = KINDS[kind]()
    data = written(tmp_path / "a.mindrecord", columns)
    rest = Train(batch_size=4, seq_length=LENGTH) | Runtime(output=str(tmp_path))
    task = Task.evaluate(data=data)
    result = (Model(weights=str(weights)) | DATA | rest | task).plan().run(keep=False)
    want, tokens = loss_of(random_model(264), columns)
    assert result.loss == pytest.approx(want.item(), abs=1e-4)
    assert result.tokens == tokens


@pytest.mark.parametrize(
    ("kind", "parallel"),
    [
        ("left out", Parallel(micro_batches=3)),
        ("padded", Parallel()),
        ("other tokens", Parallel(micro_batches=2)),
        pytest.param("left out", Parallel(dp=2), marks=pytest.mark.soak),
        pytest.param("left out", Parallel(mp=2), marks=pytest.mark.soak),
        pytest.param("padded", Parallel(pp=2, micro_batches=2), marks=pytest.mark.soak),
    ],
)
def test_training_follows_torch_on_what_labels_keep(
    weights: Path, tmp_path: Path, kind: str, parallel: Parallel
) -> None:
    columns = KINDS[kind]()
    data = written(tmp_path / "a.mindrecord", columns)
    recipe = (
        Model(weights=str(weights), dropout=0.0)
        | DATA
        | Train(batch_size=6, seq_length=LENGTH, steps=3, clip=0.0)
        | Optim(name="sgd", lr=0.05, weight_decay=0.0, momentum=0.0)
        | Schedule(kind="constant", warmup=0)
        | parallel
        | Runtime(output=str(tmp_path))
        | Task.finetune(data=data, eval_data=data)
    )
    result = recipe.plan().run()
    assert result.directory
    lines = (result.directory / "metrics.jsonl").read_text().splitlines()
    losses = [line["loss"] for line in map(json.loads, lines) if "loss" in line]
    model = random_model(264)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    expected = []
    for _ in range(3):
        loss, _ = loss_of(model, columns)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, abs=2e-4)
    assert expected[0] - expected[2] > 0.01
    final, tokens = loss_of(model, columns)
    assert result.loss == pytest.approx(final.item(), abs=2e-4)
    assert result.tokens == tokens


def hidden_before() -> dict[str, Array]:
    found = padded()
    return {name: values[:, ::-1] for name, values in found.items()}


def with_hole() -> dict[str, Array]:
    found = left_out()
    found["attention_mask"][2, 5] = 0
    return found


def shares() -> dict[str, Array]:
    found = left_out()
    return found | {"attention_mask": found["attention_mask"] * 2}


def nothing_kept() -> dict[str, Array]:
    found = left_out()
    return found | {"labels": np.full_like(found["labels"], -100)}


def negative() -> dict[str, Array]:
    found = left_out()
    found["labels"][1, 3] = -1
    return found


def beyond() -> dict[str, Array]:
    found = others()
    found["labels"][1, 9] = 264
    return found


def with_positions() -> dict[str, Array]:
    found = left_out()
    return found | {"position_ids": np.zeros_like(found["labels"])}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (hidden_before, "row 1 is padded before its end .* pad on the right"),
        (with_hole, "row 2 is padded before its end"),
        (shares, "row 0: attention_mask has other values than 0 and 1"),
        (nothing_kept, "its labels keep no token to predict"),
        (negative, "it has the id -1; only labels may be negative, -100"),
        (beyond, "it has the id 264; the word table has 264 rows"),
        (with_positions, "its column position_ids would change the loss"),
    ],
)
def test_rows_that_would_give_another_loss_are_refused(
    weights: Path, tmp_path: Path, columns: Any, words: str
) -> None:
    data = written(tmp_path / "a.mindrecord", columns())
    rest = Train(batch_size=2, seq_length=LENGTH) | Task.evaluate(data=data)
    with pytest.raises(SpecError, match=words):
        (Model(weights=str(weights)) | DATA | rest).plan().run(keep=False)


def test_the_plan_tells_of_columns_that_are_not_read(weights: Path, tmp_path: Path) -> None:
    rest = Train(batch_size=2, seq_length=LENGTH)
    base = Model(weights=str(weights)) | DATA | rest
    more = written(tmp_path / "more.mindrecord", left_out() | {"source": np.zeros((6, 1))})
    (data,) = (
        one for one in (base | Task.evaluate(data=more)).plan().inputs if one.key == "task.data"
    )
    assert data.detail == "mindrecord; not read: source"
    wrong = written(tmp_path / "wrong.mindrecord", with_positions())
    (fault,) = (base | Task.evaluate(data=wrong)).faults()
    assert fault.code == "G2-309"
    assert "its column position_ids would change the loss" in fault.message


def test_rows_for_evaluation_are_eval_data_of_a_training_but_not_its_data(
    weights: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "a.txt"
    texts.write_text("the cat sat on the mat. " * 40)
    for name, words in (("train", []), ("valid", ["--evaluation"])):
        command = ["data", "prepare", str(texts), str(tmp_path / name), "--seq-length", "16"]
        done = CliRunner().invoke(cli, [*command, "--tokenizer", str(weights), *words])
        assert done.exit_code == 0, done.output
    base = (
        Model(weights=str(weights))
        | DATA
        | Train(batch_size=2, seq_length=16, steps=1)
        | Runtime(output=str(tmp_path))
    )
    train, valid = str(tmp_path / "train"), str(tmp_path / "valid")
    held = (base | Task.finetune(data=train, eval_data=valid)).plan().run()
    assert held.checkpoint
    alone = Model(weights=str(held.checkpoint)) | DATA | Train(batch_size=2, seq_length=16)
    again = (alone | Task.evaluate(data=valid)).plan().run(keep=False)
    assert held.loss == pytest.approx(again.loss, abs=1e-4)
    assert held.tokens == again.tokens
    with pytest.raises(InputError, match="data prepare writes them without --evaluation"):
        (base | Task.finetune(data=valid)).plan().run()


TEXTS = [("the cat", "good"), ("a the the", "bad"), ("cat cat cat", "good"), ("th", "bad")] * 6


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts with classes, and a classifier of two."""
    folder = tmp_path_factory.mktemp("classes")
    lines = (json.dumps({"text": text, "label": label}) for text, label in TEXTS)
    (folder / "rows.jsonl").write_text("\n".join(lines))
    vocabulary(folder / "c")
    model = random_model(264, GPT2ForSequenceClassification, num_labels=2, pad_token_id=END)
    model.config.id2label, model.config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    model.save_pretrained(folder / "c")
    return folder


def as_mindformers(folder: Path, name: str) -> str:
    """The texts as txtcls_dataset_to_mindrecord.py writes them: int64, padded to 24 tokens."""
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(folder / "c")
    tokenizer.pad_token = tokenizer.eos_token
    found = tokenizer([text for text, _ in TEXTS], padding="max_length", max_length=24)
    labels = [[int(label == "good")] for _, label in TEXTS]
    return written(folder / name, {**found, "labels": labels}, "int64")


def classified(classes: Path, data: str, form: str, task: str, parent: Path) -> Any:
    recipe = (
        Model(weights=str(classes / "c"), dropout=0.0)
        | Classifier(labels=["bad", "good"])
        | Data(format=form)
        | Train(batch_size=4, seq_length=LENGTH, steps=3)
        | Runtime(output=str(parent))
    )
    trains = task == "finetune"
    made = Task.finetune(data=data, eval_data=data) if trains else Task.evaluate(data=data)
    return (recipe | made).plan().run()


@pytest.mark.parametrize("task", ["evaluate", "finetune"])
def test_classes_of_mindformers_and_of_prepare_give_the_losses_of_the_texts(
    classes: Path, tmp_path: Path, task: str
) -> None:
    command = ["data", "prepare", str(classes / "rows.jsonl"), str(tmp_path / "ours")]
    command += ["--format", "jsonl", "--labels", "bad,good", "--seq-length", "24", "--json"]
    done = CliRunner().invoke(cli, [*command, "--tokenizer", str(classes / "c")])
    said = {"target": str(tmp_path / "ours"), "rows": 24, "row_tokens": 24, "classes": 2}
    assert json.loads(done.stdout) == said
    theirs = as_mindformers(classes, f"{task}.mindrecord")
    for one, other in zip(read(theirs), read(str(tmp_path / "ours")), strict=True):
        for name in ("input_ids", "attention_mask", "labels"):
            assert one[name].dtype == other[name].dtype == np.int64
            assert np.array_equal(one[name], other[name])
    sources = {str(classes / "rows.jsonl"): "jsonl", theirs: "mindrecord"}
    sources[str(tmp_path / "ours")] = "mindrecord"
    found = [
        classified(classes, name, form, task, tmp_path / str(i))
        for i, (name, form) in enumerate(sources.items())
    ]
    assert found[0].loss == found[1].loss == found[2].loss
    assert found[0].scores == found[1].scores


def read(name: str) -> list[dict[str, Any]]:
    files = sorted(map(str, Path(name).glob("*.mindrecord"))) if Path(name).is_dir() else [name]
    data = ds.MindDataset(files, shuffle=False, num_parallel_workers=1)
    return list(data.create_dict_iterator(num_epochs=1, output_numpy=True))


def test_rows_of_text_are_no_rows_of_classes_and_other_classes_are_named(
    classes: Path, tmp_path: Path
) -> None:
    text = written(tmp_path / "text.mindrecord", left_out())
    with pytest.raises(SpecError, match="row 0 has 17 labels: one is expected, its class"):
        classified(classes, text, "mindrecord", "evaluate", tmp_path)
    columns = left_out() | {"labels": np.array([[0], [1], [0], [2], [0], [1]])}
    three = written(tmp_path / "three.mindrecord", columns)
    with pytest.raises(SpecError, match="row 3 is of class 2; 2 are counted from 0"):
        classified(classes, three, "mindrecord", "evaluate", tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "text", "--labels", "2"], "--labels: text has no classes"),
        (["--format", "jsonl", "--labels", "a"], "expected a number or two names"),
        (["--format", "jsonl", "--labels", "a,b", "--evaluation"], "--evaluation: rows of classes"),
        (["--format", "agnews", "--labels", "3"], "agnews has 4 classes, --labels says 3"),
        (["--format", "jsonl", "--labels", "x,y"], "the class is 'good', one of 0, 1, x, y"),
    ],
)
def test_labels_that_can_not_be_written_are_refused(
    classes: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    command = ["data", "prepare", str(classes / "rows.jsonl"), str(tmp_path / "out")]
    more = ["--seq-length", "24", "--tokenizer", str(classes / "c")]
    done = CliRunner().invoke(cli, [*command, *more, *words])
    assert done.exit_code == 2 or isinstance(done.exception, SpecError)
    assert said in done.output + str(done.exception)
    assert not (tmp_path / "out").exists()
