"""Projects that have been run: every task, chains, adapters, classifiers, several ranks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli_w
from transformers import GPT2ForSequenceClassification

from tests.adapters import save_adapter
from tests.vocabularies import random_model, vocabulary

Table = dict[str, Any]

SPEC = "spec.toml"
"""A project's recipe or chain."""

SIZES = {"n_layer": 1, "n_embd": 8, "n_positions": 16}
TEXT = "the cat sat on the mat and the old dog ran\n"
MODEL: Table = {"weights": "m", "dropout": 0.0}
TRAIN: Table = {"batch_size": 2, "seq_length": 8, "steps": 4, "save_every": 2}
OPTIM: Table = {"lr": 0.01}
TUNE: Table = {"kind": "finetune", "data": "train.txt", "eval_data": "valid.txt"}
ROWS: Table = {"kind": "finetune", "data": "rows.csv", "eval_data": "more.csv"}
CLASSES: Table = {"labels": ["rain", "sun"]}
EVALUATE: Table = {"kind": "evaluate", "data": "valid.txt"}
READING: Table = {"batch_size": 2, "seq_length": 8}
TRAINING: Table = {"model": MODEL, "train": TRAIN, "optim": OPTIM}
AFTER_TRAINING = "training 3/4"


@attrs.frozen
class Project:
    """A kind of run.

    Attributes:
        name: of the kind.
        stages: the tables of each stage of a chain; of a recipe the one.
        pause: what is printed where an interrupted run is stopped.
        ranks: processes that it takes.
    """

    name: str
    stages: tuple[Table, ...]
    pause: str = AFTER_TRAINING
    ranks: int = 1

    @property
    def reads(self) -> set[str]:
        """The files and folders that it reads."""
        names = {name for name in INPUTS if self.keys_of(name)}
        return names | ({"m"} if "a" in names else set())

    def keys_of(self, file: str) -> list[str]:
        """Return the keys by which a file, or the folder that it lies in, is read."""
        return [
            f"{part}.{key}"
            for stage in self.stages
            for part, table in stage.items()
            for key, value in table.items()
            if isinstance(value, str) and value.split("/")[0] == file.split("/", maxsplit=1)[0]
        ]

    def write(self, folder: Path, stages: tuple[Table, ...] | None = None) -> None:
        """Write the recipe, with other tables where they are given."""
        tables = stages or self.stages
        document: Table = {"stage": list(tables)} if len(tables) > 1 else dict(tables[0])
        (folder / SPEC).write_text(tomli_w.dumps(document))


INPUTS = (
    "m",
    "m2",
    "a",
    "c",
    "begun",
    "train.txt",
    "valid.txt",
    "prompts.txt",
    "rows.csv",
    "more.csv",
)
"""Everything that a project may read."""

_ADDED = {"lora": {"r": 2}}
PROJECTS = (
    Project("finetune", ({**TRAINING, "task": TUNE},)),
    Project(
        "begun at a checkpoint",
        ({**TRAINING, "train": {**TRAIN, "resume": "begun/step-2"}, "task": TUNE},),
        "compiling the training step",
    ),
    Project(
        "float16",
        (
            {
                **TRAINING,
                "precision": {"compute": "float16"},
                "train": {**TRAIN, "evaluate_every": 2, "best": True},
                "task": TUNE,
            },
        ),
    ),
    Project("lora", ({**TRAINING, **_ADDED, "task": TUNE},)),
    Project(
        "pretrain",
        (
            {
                "model": {"size": "nano", "layers": 1, "hidden": 8, "heads": 2, "positions": 16},
                "data": {"tokenizer": "train", "vocab": 270},
                "train": TRAIN,
                "generation": {"max_new_tokens": 3},
                "task": {**TUNE, "kind": "pretrain"},
            },
        ),
    ),
    Project(
        "finetune classes",
        ({**TRAINING, "data": {"format": "csv"}, "classifier": CLASSES, "task": ROWS},),
    ),
    Project(
        "evaluate",
        ({"model": {"weights": "m"}, "train": READING, "task": EVALUATE},),
        "loading",
    ),
    Project(
        "evaluate an adapter",
        ({"model": {"weights": "a"}, "train": READING, "task": EVALUATE},),
        "loading",
    ),
    Project(
        "generate",
        (
            {
                "model": {"weights": "m"},
                "generation": {"max_new_tokens": 4, "do_sample": True},
                "task": {"kind": "generate", "prompts": "prompts.txt"},
            },
        ),
        "loading",
    ),
    Project(
        "classify",
        ({"model": {"weights": "c"}, "task": {"kind": "classify", "texts": "prompts.txt"}},),
        "loading",
    ),
    Project("convert", ({"task": {"kind": "convert", "source": "m", "target": "out"}},), "out"),
    Project(
        "reshard",
        ({"task": {"kind": "reshard", "source": "m", "target": "out", "layout": {"mp": 2}}},),
        "out",
    ),
    Project(
        "train, merge, evaluate",
        (
            {**TRAINING, **_ADDED, "task": TUNE},
            {"task": {"kind": "convert", "target": "merged", "merge": True}},
            {"train": READING, "task": EVALUATE},
        ),
    ),
    Project(
        "train, evaluate and classify by classes",
        (
            {**TRAINING, **_ADDED, "data": {"format": "csv"}, "classifier": CLASSES, "task": ROWS},
            {
                "data": {"format": "csv"},
                "train": READING,
                "task": {"kind": "evaluate", "data": "more.csv"},
            },
            {"task": {"kind": "classify", "texts": "prompts.txt"}},
        ),
        "held-out loss",
    ),
    Project(
        "train, export and generate",
        (
            {**TRAINING, "task": TUNE},
            {"task": {"kind": "generate", "prompts": "prompts.txt"}},
            {"task": {"kind": "export", "target": "graphs", "format": "onnx", "cache": False}},
        ),
    ),
    Project("two ranks", ({**TRAINING, "parallel": {"mp": 2}, "task": TUNE},), ranks=2),
)  # fmt: skip
"""The kinds of runs."""


def make_inputs(folder: Path) -> None:
    """Write everything that the projects read: weights, an adapter, a classifier, data."""
    for name, activation in (("m", "gelu_new"), ("m2", "relu")):
        vocabulary(folder / name)
        random_model(264, activation_function=activation, **SIZES).save_pretrained(folder / name)
    save_adapter(folder / "m", folder / "a", target_modules=["c_attn"], task_type="CAUSAL_LM")
    config = folder / "a" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(folder / "m"), "m"))
    vocabulary(folder / "c")
    names: Mapping[str, Any] = {"id2label": {0: "rain", 1: "sun"}, "pad_token_id": 263}
    classifier = random_model(264, GPT2ForSequenceClassification, **SIZES, **names)
    classifier.save_pretrained(folder / "c")
    (folder / "train.txt").write_text(TEXT * 12)
    (folder / "valid.txt").write_text("the dog\n" + TEXT)
    (folder / "prompts.txt").write_text("the cat\nthe old dog\n")
    for name, count in (("rows.csv", 8), ("more.csv", 4)):
        lines = [f"{word} the cat {i},{word}" for i in range(count) for word in ("rain", "sun")]
        (folder / name).write_text("\n".join(["text,label", *lines]) + "\n")


def copy(source: Path, target: Path) -> Path:
    """Copy a project, in place of what was there."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
    return target
