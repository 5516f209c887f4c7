from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoTokenizer, GPT2ForSequenceClassification

from gpt2dsl import Classifier, Data, LoRA, Model, Optim, Recipe, Runtime, SpecError, Task, Train
from gpt2dsl.data.bad_rows import BadRowError
from gpt2dsl.data.classes import Classes
from gpt2dsl.data.form import DataFormat
from gpt2dsl.data.source import Source
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.job import Result
from gpt2dsl.engine.scores import ClassificationMetrics
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.weights import opening, reading
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.initial import initial
from tests.cli.test_cli import run

WORDS = {
    0: ["awful", "sad", "broken", "dull", "grim", "cold"],
    1: ["happy", "great", "lovely", "fine", "bright", "kind"],
    2: ["red", "green", "blue", "yellow", "white", "black"],
    3: ["one", "two", "three", "four", "five", "six"],
}


def rows(number: int, classes: int, seed: int) -> list[tuple[str, int]]:
    """Texts whose words tell their class, of 2 to 12 words."""
    chance = random.Random(seed)
    found = []
    for _ in range(number):
        kind = chance.randrange(classes)
        found.append((" ".join(chance.choices(WORDS[kind], k=chance.randint(2, 12))), kind))
    return found


def sst2(texts: list[tuple[str, int]]) -> str:
    lines = [f"{text} 's \"odd\t{kind}" for text, kind in texts]
    return "\n".join(["sentence\tlabel", *lines, ""])


def imdb(texts: list[tuple[str, int]]) -> str:
    names = ("negative", "positive")
    lines = [f'"{text},<br />\n""so"" it is",{names[kind]}' for text, kind in texts]
    return "\r\n".join(["review,sentiment", *lines, ""])


def agnews(texts: list[tuple[str, int]]) -> str:
    return "\n".join(f'"{kind + 1}","A, ""title""","{text}"' for text, kind in texts) + "\n"


def cola(texts: list[tuple[str, int]]) -> str:
    return "\n".join(f"gj04\t{kind}\t*\t{text} \"won't." for text, kind in texts) + "\n"


SETS: dict[str, tuple[Callable[[list[tuple[str, int]]], str], int]] = {
    "sst2": (sst2, 2), "imdb": (imdb, 2), "agnews": (agnews, 4), "cola": (cola, 2),
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small language model with a tokenizer, as weights to start from."""
    folder = tmp_path_factory.mktemp("base")
    text = " ".join(word for words in WORDS.values() for word in words)
    tokenizer = Tokenizer.train([text * 9], 400)
    geometry = GPT2Config(
        layers=2, heads=2, hidden=32, positions=64, vocab=len(tokenizer), dropout=0.0
    )
    huggingface.write(folder, geometry, dict(Arrays(initial(geometry, 0))), tokenizer)
    return folder


def spec(name: str, base: Path, folder: Path) -> Recipe:
    """A spec of ours on 200 rows, and on weights that train in seconds."""
    write, classes = SETS[name]
    (folder / "train").write_bytes(write(rows(200, classes, 0)).encode())
    (folder / "valid").write_bytes(write(rows(60, classes, 1)).encode())
    settings = {
        "model.size": "", "model.weights": base, "model.dropout": 0.0, "train.seq_length": 64,
        "train.epochs": 4, "optim.lr": 3e-3, "runtime.output": folder / "runs",
        "task.data": folder / "train", "task.eval_data": folder / "valid",
    }  # fmt: skip
    quoted = [f"{key}={json.dumps(value, default=str)}" for key, value in settings.items()]
    return Recipe.load(f"specs/gpt2-124m-finetune-{name}.toml", quoted)


@pytest.fixture(scope="module", params=SETS)
def trained(
    request: pytest.FixtureRequest, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Recipe, Result]:
    recipe = spec(request.param, base, tmp_path_factory.mktemp(request.param))
    return request.param, recipe, recipe.plan().run()


def test_each_set_trains_evaluates_and_classifies_through_its_spec(
    trained: tuple[str, Recipe, Result],
) -> None:
    name, recipe, result = trained
    assert isinstance(result.scores, ClassificationMetrics)
    assert result.scores.accuracy > 0.95
    assert result.scores.rows == 60
    assert result.notes == ("the classification head (score.weight) is new",)
    assert result.directory
    report = (result.directory / "report.html").read_text()
    assert "Classes that were said" in report
    weights = str(result.checkpoint)
    held_out = recipe.parts["task"].eval_data  # type: ignore[attr-defined]
    parts = (Model(weights=weights), Data(format=name), Train(seq_length=64, batch_size=16))
    again = Recipe(Task.evaluate(data=held_out), *parts).plan().run()
    assert again.scores == result.scores
    names = recipe.parts["classifier"].labels  # type: ignore[attr-defined]
    texts = [" ".join(WORDS[kind]) for kind in range(len(names))]
    said = Recipe(Task.classify(texts=texts), Model(weights=weights)).plan().run()
    assert said.classes == tuple(names)
    assert all(0.5 < share <= 1 for share in said.probabilities)


def test_the_checkpoint_is_transformers_classifier_with_the_same_logits_and_loss(
    trained: tuple[str, Recipe, Result],
) -> None:
    name, recipe, result = trained
    model = GPT2ForSequenceClassification.from_pretrained(result.checkpoint).eval()
    names = recipe.parts["classifier"].labels  # type: ignore[attr-defined]
    assert tuple(model.config.id2label.values()) == names
    held_out = recipe.parts["task"].eval_data  # type: ignore[attr-defined]
    found = list(Source.open(held_out, DataFormat(format=name)).rows(number=str))
    batch = AutoTokenizer.from_pretrained(result.checkpoint)([row.text for row in found])
    width = max(map(len, batch["input_ids"]))
    ids = torch.full((len(found), width), model.config.pad_token_id)
    mask = torch.zeros((len(found), width), dtype=torch.int64)
    for i, row in enumerate(batch["input_ids"]):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    with torch.no_grad():
        classes = Classes(names, DataFormat(format=name))
        labels = torch.tensor([classes.number(row.label) for row in found])
        expected = model(ids, attention_mask=mask, labels=labels)
    assert result.loss == pytest.approx(float(expected.loss), abs=1e-4)
    shares = expected.logits.softmax(-1).numpy()
    task = Task.classify(texts=[row.text for row in found])
    said = Recipe(task, Model(weights=str(result.checkpoint))).plan().run()
    assert np.abs(np.array(said.probabilities) - shares.max(1)).max() < 1e-4


def _recipe(folder: Path, content: str, **classifier: int) -> Recipe:
    (folder / "data").write_text(content)
    return Recipe(
        Model(size="nano", layers=1, heads=1, hidden=8),
        Classifier(**classifier),
        Data(format="tsv", tokenizer="train", vocab=300, text_column="t", label_column="l"),
        Train(seq_length=16, batch_size=2),
        Optim(),
        Runtime(output=str(folder)),
        Task.pretrain(data=str(folder / "data")),
    )


def test_a_class_outside_of_the_labels_is_an_error_with_its_line(tmp_path: Path) -> None:
    content = "t\tl\na b\t0\nc d\t2\ne f\t1\ng h\tx\n"
    with pytest.raises(SpecError) as caught:
        _recipe(tmp_path, content, labels=2).plan().run()
    (fault,) = caught.value.faults
    assert f"{tmp_path}/data:3: the class is '2', one of 0, 1" in str(fault)
    assert "; line 5 likewise ('x')" in str(fault)


def test_names_that_look_like_numbers_are_no_numbers_of_the_four_sets() -> None:
    names = ("1", "2", "3", "4")
    assert Classes(names, DataFormat(format="agnews")).number("1") == 1
    tables = Classes(names, DataFormat(format="csv"))
    assert tables.number("1") == 0
    with pytest.raises(BadRowError, match="the class is '0', one of 1, 2, 3, 4"):
        tables.number("0")


def test_imdb_names_its_classes_whatever_their_order() -> None:
    form = DataFormat(format="imdb")
    assert Classes(("positive", "negative"), form).number("negative") == 1
    assert Classes(("bad", "good"), form).number("positive") == 1


def test_labels_in_another_order_than_the_weights_are_a_fault(
    trained: tuple[str, Recipe, Result],
) -> None:
    name, recipe, result = trained
    names = recipe.parts["classifier"].labels  # type: ignore[attr-defined]
    held_out = recipe.parts["task"].eval_data  # type: ignore[attr-defined]
    other = Recipe(
        Task.evaluate(data=held_out), Model(weights=str(result.checkpoint)),
        Classifier(labels=list(reversed(names))), Data(format=name), Train(seq_length=64),
    )  # fmt: skip
    assert any("in this order; leave it out" in fault.message for fault in other.faults())
    more = other.replace(Classifier(labels=9))
    assert any("classes, the classifier 9" in fault.message for fault in more.faults())


def test_the_lines_of_a_file_are_classified_as_texts_are(
    tmp_path: Path, base: Path, capsys: Any
) -> None:
    weights = tmp_path / "classifier"
    GPT2ForSequenceClassification.from_pretrained(base, num_labels=2).save_pretrained(weights)
    (tmp_path / "dev.txt").write_text("a film\n\nthe dull one\n")
    command = ("classify", str(weights), "--tokenizer", str(base), "--json")
    assert run(*command, "--texts", str(tmp_path / "dev.txt")) == 0
    of_file = json.loads(capsys.readouterr().out)
    assert run(*command, "--text", "a film", "--text", "the dull one") == 0
    of_texts = json.loads(capsys.readouterr().out)
    assert of_file["texts"] == ["a film", "the dull one"]
    assert of_file["probabilities"] == of_texts["probabilities"]


def test_a_classifier_of_plain_text_is_a_fault(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, "a", labels=2).set("data.format", "text")
    assert any("needs the class of each text" in fault.message for fault in recipe.faults())


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Task.classify(texts=["a"]), "it has no classification head"),
        (Task.evaluate(data="sample:valid"), "a classifier needs the class of each text"),
    ],
)
def test_a_head_that_is_not_there_is_a_fault(base: Path, task: Task, said: str) -> None:
    recipe = Recipe(task, Classifier(labels=2), Model(weights=str(base)), Train(seq_length=64))
    assert any(said in fault.message for fault in recipe.faults())


def test_a_classifier_is_no_language_model(trained: tuple[str, Recipe, Result]) -> None:
    _, _, result = trained
    recipe = Recipe(Task.generate(prompts=["a"]), Model(weights=str(result.checkpoint)))
    assert any("a classifier generates no text" in fault.message for fault in recipe.faults())
    three = Recipe(
        Task.evaluate(data="x"), Classifier(labels=9), Model(weights=str(result.checkpoint))
    )
    assert any("9 classes here, " in fault.message for fault in three.faults())


def test_an_adapters_checkpoint_names_its_classes_and_keeps_its_dropout(
    base: Path, tmp_path: Path
) -> None:
    names = ("rainy", "sunny")
    lines = [f"{text},{names[kind]}" for text, kind in rows(16, 2, 0)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines, ""]))
    recipe = (
        Model(weights=str(base), dropout=0.0)
        | Classifier(labels=names)
        | LoRA(r=2, dropout=0.25)
        | Data(format="csv")
        | Train(batch_size=8, seq_length=16, steps=1)
        | Runtime(output=str(tmp_path / "runs"))
        | Task.finetune(data=str(tmp_path / "train.csv"))
    )
    checkpoint = recipe.plan().run().checkpoint
    assert checkpoint
    assert reading.read_info(checkpoint).classes == names
    config = LoraConfig.from_pretrained(checkpoint)
    assert config.lora_dropout == 0.25
    Recipe(
        Task.convert(source=str(checkpoint), target=str(tmp_path / "peft"), to="peft")
    ).plan().run()
    assert reading.read_info(tmp_path / "peft").classes == names
    again = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert again == json.loads((Path(checkpoint) / "adapter_config.json").read_text())
    tokenizer = Tokenizer.load(checkpoint)
    pad = tokenizer.eos if tokenizer.pad is None else tokenizer.pad
    assert opening.opened(checkpoint, Overrides()).config["pad_token_id"] == pad  # as in training
    theirs = PeftModel.from_pretrained(
        GPT2ForSequenceClassification.from_pretrained(base, num_labels=2), checkpoint
    ).eval()
    ids = torch.tensor([[1, 5, 9]])
    with torch.no_grad():
        expected = theirs(ids).logits.numpy()
    merged = tmp_path / "merged"
    Recipe(Task.convert(source=str(checkpoint), target=str(merged), merge=True)).plan().run()
    model = GPT2ForSequenceClassification.from_pretrained(merged).eval()
    assert model.config.id2label == {0: "rainy", 1: "sunny"}
    with torch.no_grad():
        assert np.abs(model(ids).logits.numpy() - expected).max() < 1e-4
