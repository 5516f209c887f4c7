"""A value that is faulty itself is compared with no other: each is one fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl.chain import specs
from gpt2dsl.errors import Fault
from gpt2dsl.parts.rules import FieldRule
from gpt2dsl.recipe import Recipe

WEIGHTS = next(Path(__file__).parents[1].glob("compatibility/*/runs/small-*/checkpoints/step-*"))

CLASSIFIER = """
model.weights = "{weights}"
classifier.labels = ["praise", "blame", "neither"]
parallel = {{ dp = 3, micro_batches = 2 }}
data.format = "tsv"
data.header = false
data.text_column = 1
data.label_column = 0
data.quotes = false
data.max_bad_rows = 1
train.batch_size = 6
train.seq_length = 8
train.steps = 20
train.evaluate_every = 5
train.best = true
train.patience = 2
optim.lr = 1e-3
schedule = {{ kind = "cosine", warmup = 10, end = 5e-4 }}
lora = {{ targets = "c_attn|q", rank_pattern = {{ c_attn = 4 }}, alpha_pattern = {{ c_attn = 4 }} }}
task = {{ kind = "finetune", data = "{rows}", eval_data = "{rows}" }}
"""

LARGE = """
model.layers = 32
model.heads = 20
model.hidden = 1280
model.inner = 2560
model.positions = 2048
model.vocab = 300
model.weights = "random"
parallel = {{ dp = 3, mp = 2, pp = 32, micro_batches = 2, sequence_parallel = true }}
data = {{ format = "jsonl", text_column = "words", tokenizer = "train", vocab = 300 }}
train = {{ batch_size = 6, seq_length = 2048, steps = 2000 }}
optim.lr = 1e-3
schedule = {{ kind = "polynomial", warmup = 1000, end = 5e-4 }}
precision = {{ params = "bfloat16", compute = "bfloat16" }}
runtime.device = "ascend"
task = {{ kind = "pretrain", data = "{text}" }}
"""

CHOSEN = """
model.weights = "random"
model.size = "nano"
parallel = {{ devices = 4, memory = "100MB" }}
train = {{ batch_size = 8, seq_length = 64, epochs = 2 }}
task = {{ kind = "pretrain", data = "sample:train", eval_data = "sample:valid" }}
"""

GENERATION = """
model.weights = "{weights}"
data.tokenizer = "auto"
generation.do_sample = false
generation.beams = 4
generation.num_return_sequences = 3
generation.length_penalty = 0.5
generation.max_new_tokens = 8
task = {{ kind = "generate", prompts = ["the cat"] }}
"""

EVALUATION = """
model.weights = "{weights}"
data.format = "jsonl"
data.text_column = "words"
train.seq_length = 8
task = {{ kind = "evaluate", data = "{text}", metrics = ["perplexity"] }}
"""

CONVERSION = """
task.kind = "convert"
task.source = "{weights}"
task.target = "{folder}/out"
task.to = "hf"
task.dtype = "float16"
"""

WRONG: tuple[Any, ...] = (
    True, 7, 1.5, "no such value", "", [], [1], ["a"], {}, -1, -2, 0.5, 2, 0, 1e300, 2**62,
)  # fmt: skip
RECIPES = {
    "classifier": CLASSIFIER,
    "large": LARGE,
    "chosen": CHOSEN,
    "generation": GENERATION,
    "evaluation": EVALUATION,
    "conversion": CONVERSION,
}


def written(folder: Path, recipe: str) -> Path:
    names = ("praise", "blame", "neither")
    rows = "".join(f'{names[i % 3]}\tthe "cat" sat\n' for i in range(60))
    (folder / "rows.tsv").write_text(rows)
    text = json.dumps({"words": "the cat sat on the mat " * 300}) + "\n"
    (folder / "text.jsonl").write_text(text * 3)
    path = folder / "x.toml"
    places = {"weights": WEIGHTS, "rows": folder / "rows.tsv", "text": folder / "text.jsonl"}
    path.write_text(recipe.format(folder=folder, **places))
    return path


def wrong_values(rule: FieldRule) -> Iterator[Any]:
    """Yield a value of a wrong type, and one of the right type that is out of range."""
    for code in ("G2-201", "G2-202"):
        for value in WRONG:
            problem = rule.problem(value)
            if problem and problem[0] == code:
                yield value
                break


def faults_of(path: Path) -> list[Fault]:
    return list(specs.examine(str(path))[1])


@pytest.mark.parametrize("name", RECIPES)
def test_a_faulty_value_is_the_only_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("GPT2DSL_CACHE", str(tmp_path / "cache"))
    path = written(tmp_path, RECIPES[name])
    assert faults_of(path) == []
    recipe = specs.load(str(path))
    assert isinstance(recipe, Recipe)
    parts, faulty, others = recipe.completed, tmp_path / "faulty.toml", {}
    for key, rule in ((f"{p.table}.{key}", rule) for p in parts for key, rule in p.rules().items()):
        for value in wrong_values(rule):
            setting = f"{key} = {json.dumps(value)}"
            faulty.write_text(f'extends = "{path}"\n{setting}\n')
            faults = faults_of(faulty)
            if [fault.key for fault in faults] != [key]:
                others[setting] = [str(fault) for fault in faults]
    assert others == {}


SMALL = """
[model]
size = "nano"
[train]
batch_size = 4
seq_length = 32
[task]
kind = "pretrain"
data = "{text}"
eval_data = "{text}"
"""


COSINE = """
data = { format = "jsonl", text_column = "words" }
schedule = { kind = "cosine", end = 5e-4 }
"""


@pytest.mark.parametrize(
    ("more", "key"),
    [
        (f'optim.lr = "3e-3"\n{COSINE}', "optim.lr"),
        (f"optim.lr = -1e-3\n{COSINE}", "optim.lr"),
        ('data.format = "json"\n', "data.format"),
        ('data = { format = "jsonl", text_column = [] }\n', "data.text_column"),
        ('data = { format = "jsonl", text_colum = "words" }\n', "data.text_colum"),
    ],
)
def test_the_default_of_a_faulty_value_is_not_blamed(tmp_path: Path, more: str, key: str) -> None:
    path = written(tmp_path, more.replace("{", "{{").replace("}", "}}") + SMALL)
    assert [fault.key for fault in faults_of(path)] == [key]


def test_the_classes_of_faulty_labels_are_not_blamed(tmp_path: Path) -> None:
    path = written(tmp_path, CLASSIFIER)
    faults = specs.examine(str(path), ["classifier.labels=praise,blame,neither"])[1]
    assert [(fault.code, fault.key) for fault in faults] == [("G2-201", "classifier.labels")]


def test_a_faulty_value_hides_no_fault_of_others(tmp_path: Path) -> None:
    recipe = 'optim.lr = "3e-3"\n' + SMALL.replace("{text}", "absent.txt")
    faults = faults_of(written(tmp_path, recipe))
    names = [fault.key.partition(" ")[0] for fault in faults]
    assert names == ["optim.lr", "task.data", "task.eval_data"]


def test_a_faulty_value_of_a_stage_is_not_compared_in_later_ones(tmp_path: Path) -> None:
    recipe = """
[[stage]]
model = {{ size = "nano", positions = "long" }}
task = {{ kind = "pretrain", data = "sample:train" }}
train = {{ batch_size = 4, seq_length = 2048 }}
[[stage]]
task = {{ kind = "evaluate", data = "sample:valid" }}
train.seq_length = 2048
"""
    assert [fault.key for fault in faults_of(written(tmp_path, recipe))] == [
        "stage.1.model.positions"
    ]
