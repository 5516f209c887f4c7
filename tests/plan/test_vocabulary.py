"""A tokenizer whose ids the word table has not: refused before anything is computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2ForSequenceClassification

import gpt2dsl
from gpt2dsl import Data, Model, Recipe, SpecError, Task, Train
from gpt2dsl.errors import InputError
from gpt2dsl.serve.worker import GenerationWorker
from tests.vocabularies import random_model, vocabulary

TOO_SMALL = "the tokenizer has 264 entries, the model's word table 263; ids beyond it have no"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 263 rows beside a vocabulary of 264 entries, and one of classes."""
    folder = tmp_path_factory.mktemp("small")
    for name, made in (("m", {}), ("c", {"made": GPT2ForSequenceClassification})):
        vocabulary(folder / name)
        random_model(263, **made).save_pretrained(folder / name)
    rows = (json.dumps({"text": "the cat", "label": i % 2}) + "\n" for i in range(40))
    (folder / "rows.jsonl").write_text("".join(rows))
    return folder


def recipes(small: Path) -> dict[str, Recipe]:
    data, weights = str(small / "rows.jsonl"), Model(weights=str(small / "m"))
    rows = Data(format="jsonl") | Train(seq_length=16, batch_size=2)
    classes = Model(weights=str(small / "c")) | rows
    return {
        "evaluate": weights | rows | Task.evaluate(data=data),
        "finetune": weights | rows | Task.finetune(data=data),
        "lora": weights | rows | gpt2dsl.LoRA() | Task.finetune(data=data),
        "generate": weights | Task.generate(prompts=["the cat"]),
        "classes": classes | Task.evaluate(data=data),
        "classify": classes | Task.classify(texts=["the cat"]),
        "export": Recipe(Task.export(source=str(small / "m"), target=str(small / "out"))),
    }


@pytest.mark.parametrize(
    "task", ["evaluate", "finetune", "lora", "generate", "classes", "classify", "export"]
)
def test_every_task_refuses_ids_that_have_no_row(small: Path, task: str) -> None:
    (fault,) = recipes(small)[task].faults()
    assert (fault.code, TOO_SMALL in fault.message) == ("G2-205", True)
    assert "resize_token_embeddings(264)" in fault.message


def test_the_library_and_the_server_refuse_them_in_the_same_words(small: Path) -> None:
    def load() -> Any:
        return gpt2dsl.load(str(small / "m"))

    worker = GenerationWorker(load, batch=1, waiting=0)
    worker.start()
    tries = (load, lambda: gpt2dsl.pipeline("text_generation", str(small / "m")))
    for attempt in (*tries, worker.model.result):
        with pytest.raises(InputError, match=TOO_SMALL):
            attempt()
    worker.join()


def test_a_hole_in_the_ids_counts_and_a_larger_table_is_right(tmp_path: Path) -> None:
    vocabulary(tmp_path / "holes", end=299)  # 264 entries, the largest id 299
    for rows, refused in ((299, True), (300, False), (320, False)):
        random_model(rows).save_pretrained(tmp_path / "holes")
        recipe = Model(weights=str(tmp_path / "holes")) | Task.generate(prompts=["the cat"])
        found = recipe.faults()
        assert bool(found) is refused
        assert all("300 entries, the model's word table 299" in one.message for one in found)


def test_a_token_that_was_added_and_never_given_a_row(tmp_path: Path) -> None:
    tokenizer = vocabulary(tmp_path / "m")
    tokenizer.add_tokens(["<|user|>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "m")
    random_model(264).save_pretrained(tmp_path / "m")
    (fault,) = (Model(weights=str(tmp_path / "m")) | Task.generate(prompts=["a"])).faults()
    assert "265 entries, the model's word table 264" in fault.message


def test_a_later_stage_refuses_them_too(small: Path, tmp_path: Path) -> None:
    copied = Recipe(Task.convert(source=str(small / "m"), target=str(tmp_path / "copy"), to="hf"))
    for last in (Recipe(Task.generate(prompts=["a"])), Recipe(Task.export(target="x"))):
        with pytest.raises(SpecError, match=TOO_SMALL) as caught:
            (copied >> last).plan()
        assert caught.value.faults[0].key.startswith("stage.2.")


def test_the_tokenizer_of_the_weights_is_an_input_with_a_digest(tmp_path: Path) -> None:
    tokenizer = vocabulary(tmp_path / "m")
    random_model(300).save_pretrained(tmp_path / "m")
    recipe = Model(weights=str(tmp_path / "m")) | Task.generate(prompts=["the cat"])
    (first,) = (one for one in recipe.plan().inputs if one.key == "data.tokenizer")
    assert first.digest
    tokenizer.add_tokens(["cats"])
    tokenizer.save_pretrained(tmp_path / "m")
    (then,) = (one for one in recipe.plan().inputs if one.key == "data.tokenizer")
    assert then.digest != first.digest
    (tmp_path / "m" / "tokenizer.json").write_text("{")
    (broken,) = (one for one in recipe.plan().inputs if one.key == "data.tokenizer")
    assert broken.refusals[0].code == "G2-304"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 300 rows beside its tokenizer, and another tokenizer of as many entries."""
    folder = tmp_path_factory.mktemp("large")
    random_model(300).save_pretrained(folder / "m")
    vocabulary(folder / "m")
    other = vocabulary(folder / "other")
    other.add_tokens(["cats"])
    other.save_pretrained(folder / "other")
    (folder / "t.txt").write_text("the cat sat on the mat\n" * 200)
    return folder


def reading(folder: Path, task: str, **data: Any) -> Recipe:
    rows = Data(**data) | Train(seq_length=16, batch_size=2)
    tasks: dict[str, Any] = {"evaluate": Task.evaluate, "finetune": Task.finetune}
    of = tasks[task](data=str(folder / "t.txt"))
    return Model(weights=str(folder / "m")) | rows | of


@pytest.mark.parametrize("task", ["evaluate", "finetune"])
def test_no_vocabulary_is_trained_for_weights_that_know_another(large: Path, task: str) -> None:
    assert not reading(large, task).faults()
    (fault,) = reading(large, task, tokenizer="train", vocab=300).faults()
    assert (fault.code, fault.key.partition(" ")[0]) == ("G2-107", "data.tokenizer")
    assert "leave it out to take the tokenizer of the weights" in fault.message


def test_another_tokenizer_than_that_of_the_weights_is_noted(large: Path, tmp_path: Path) -> None:
    words = "is not the tokenizer that came with the weights"
    vocabulary(tmp_path / "copy")
    for name, is_noted in (
        (large / "other", True),
        (large / "m", False),
        (tmp_path / "copy", False),
    ):
        notes = reading(large, "evaluate", tokenizer=str(name)).plan().notes
        assert any(words in note for note in notes) == is_noted
