"""The recipes of the card's eight configurations: where they are not its own, and on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl import Recipe, SpecError
from gpt2dsl.library import compare
from gpt2dsl.spec.mindformers import carrying, document
from tests.spec.mindformers_files import CHANGES, write

OF_DATA = {"data.format", "task.data", "task.eval_data"}
HALF = {"model.activation", "optim.bias_correction"}
CLASSES = {"classifier.labels", "model.weights", "train.seq_length", "runtime.device"}
FITTED = {"parallel.dp", "parallel.mp", "parallel.micro_batches"}
"""Its own layout does not fit its devices with float32 master weights."""
DIFFERENT = {
    ("run_gpt2", "gpt2-124m-pretrain"): {"train.save_every", "runtime.device"},
    ("run_gpt2_lora", "gpt2-124m-finetune-lora"): {"train.save_every", "runtime.device"},
    ("run_gpt2_xl", "gpt2-1.5b-pretrain"): HALF,
    ("run_gpt2_xl_lora", "gpt2-1.5b-finetune-lora"): set(),
    ("run_gpt2_13b", "gpt2-13b-pretrain"): HALF,
    ("run_gpt2_13b_910b", "gpt2-13b-pretrain-910b"): HALF | FITTED,
    ("run_gpt2_52b", "gpt2-52b-pretrain"): HALF,
    ("run_gpt2_txtcls", "gpt2-124m-finetune-sst2"): CLASSES | {"train.save_every"},
    ("run_gpt2_txtcls", "gpt2-124m-finetune-imdb"): CLASSES | {"train.save_every"},
    ("run_gpt2_txtcls", "gpt2-124m-finetune-agnews"): CLASSES | {"train.save_every"},
    ("run_gpt2_txtcls", "gpt2-124m-finetune-cola"): CLASSES | {"train.save_every"},
}
SAME = {
    ("model.weights", "gpt2", "auto"), ("model.weights", "gpt2-xl", "auto"),
    ("model.dropout", 0.1, None),
}  # fmt: skip
"""Two ways to say the published weights, and their own dropout, which is 0.1."""


@pytest.mark.parametrize(("file", "name"), DIFFERENT)
def test_a_recipe_of_the_card_has_its_values_but_for_those_that_are_corrected(
    tmp_path: Path, file: str, name: str
) -> None:
    theirs = Recipe(*carrying.carry(document.read(write(tmp_path, file))).parts())
    ours = Recipe.load(name)
    rows = compare.recipes(theirs.completed, ours.completed)
    found = {row.key for row in rows if (row.key, *row.values) not in SAME}
    expected = DIFFERENT[file, name] | {"optim.bias_correction"}
    assert found - OF_DATA == expected


def test_every_configuration_has_its_recipe() -> None:
    assert {file for file, _ in DIFFERENT} == set(CHANGES)


def test_a_chain_of_the_library_is_no_recipe() -> None:
    with pytest.raises(SpecError, match="is a chain of 3 stages, where one recipe is expected"):
        Recipe.load("gpt2-124m-finetune-deploy")
