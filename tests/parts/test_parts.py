from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from gpt2dsl import (
    Chain,
    Classifier,
    Generation,
    Model,
    Optim,
    Recipe,
    Schedule,
    SpecError,
    Task,
    Train,
)
from gpt2dsl.layout.params import parameter_count
from gpt2dsl.parts import TABLES, TASKS, trainer
from gpt2dsl.parts.rules import RULE


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("124m", 124_439_808),
        ("355m", 354_823_168),
        ("774m", 774_030_080),
        ("1.5b", 1_557_611_200),
        ("13b", 12_853_386_240),
        ("52b", 51_966_533_632),
    ],
)
def test_published_sizes_have_their_published_number_of_parameters(
    size: str, expected: int
) -> None:
    assert parameter_count(Model(size=size).geometry()) == expected


def test_aliases_name_the_same_network() -> None:
    for alias, size in {"small": "124m", "medium": "355m", "large": "774m", "xl": "1.5b"}.items():
        assert Model(size=alias).geometry() == Model(size=size).geometry()


def test_nano_has_the_vocabulary_of_its_data_and_other_sizes_their_own() -> None:
    assert Model(size="nano").geometry(vocab=512).vocab == 512
    assert Model(size="124m").geometry(vocab=512).vocab == 50257
    assert Model(size="nano", vocab=700).geometry(vocab=512).vocab == 700


def test_all_faults_of_a_part_are_reported_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        Train(batch_size=0, seq_length="long", bach=1, epochs=1, steps=1)  # type: ignore[arg-type, call-arg]
    assert [fault.code for fault in caught.value.faults] == [
        "G2-101",
        "G2-202",
        "G2-201",
        "G2-105",
    ]


def test_a_key_of_another_part_is_told_with_its_name() -> None:
    with pytest.raises(SpecError, match=r"model.seq_length: unknown key; Train has seq_length"):
        Model(seq_length=256)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (Optim, {"lr": 0.0}),
        (Optim, {"lr": float("inf")}),
        (Optim, {"beta1": 1.0}),
        (Optim, {"beta1": -0.1}),
        (Schedule, {"warmup": 1.5}),
        (Schedule, {"warmup": -1}),
        (Generation, {"temperature": 0.0}),
        (Generation, {"top_p": 0.0}),
        (Generation, {"top_p": 1.1}),
        (Generation, {"max_new_tokens": 0}),
        (Model, {"dropout": 1.0}),
        (Model, {"size": "7b"}),
        (Model, {"weights": ""}),
        (Model, {"layers": 0}),
        (Classifier, {"labels": 1}),
        (Classifier, {"labels": ["a", "a"]}),
        (Train, {"seed": 2**32}),
        (Train, {"batch_size": 2**63}),
        (Task.generate, {"prompts": []}),
        (Task.finetune, {"data": ""}),
        (Task.finetune, {"data": "\ud800"}),
    ],
)
def test_values_out_of_range_are_refused(cls: Any, values: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        cls(**values)
    assert [fault.code for fault in caught.value.faults] == ["G2-202"]


@pytest.mark.parametrize(
    ("cls", "values", "found"),
    [
        (Train, {"batch_size": 8.0}, "the number 8.0"),
        (Train, {"batch_size": True}, "a boolean True"),
        (Optim, {"lr": "3e-4"}, "the string '3e-4'"),
        (Generation, {"do_sample": 1}, "the integer 1"),
        (Task.generate, {"prompts": [1]}, "the list [1]"),
        (Task.reshard, {"source": "a", "target": "b", "layout": {"mq": 1}}, "the table"),
    ],
)
def test_values_of_the_wrong_type_are_refused(cls: Any, values: dict[str, Any], found: str) -> None:
    with pytest.raises(SpecError) as caught:
        cls(**values)
    assert caught.value.faults[0].code == "G2-201"
    assert found in caught.value.faults[0].message


@pytest.mark.parametrize(
    ("cls", "value", "found"),
    [
        (Task.evaluate, {"data": "x", "metrics": ("a", 1)}, "the list ['a', 1]"),
        (Task.finetune, {"data": ("a.txt", "b.txt")}, "the list ['a.txt', 'b.txt']; a folder or a"),
        (Generation, {"bad_words_ids": ((1,), ())}, "[[1], []]"),
    ],
)
def test_messages_show_tuples_as_the_lists_that_users_write(
    cls: Any, value: dict[str, Any], found: str
) -> None:
    with pytest.raises(SpecError, match=re.escape(f"found {found}")):
        cls(**value)


def test_faults_of_whole_recipes_show_lists_too(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("text\n")
    task = Task.evaluate(data=str(tmp_path / "x.txt"), metrics=["rouge"])
    keys = [fault.key for fault in (Model(size="nano", weights="random") | task).faults()]
    assert "task.metrics = ['rouge']" in keys


def test_scalars_of_numpy_are_numbers_of_python() -> None:
    train = Train(batch_size=np.int64(8), steps=np.uint8(3), best=np.True_)  # type: ignore[arg-type]
    assert train == Train(batch_size=8, steps=3, best=True)
    assert {type(train.batch_size), type(train.steps)} == {int}
    assert type(train.best) is bool
    lr = np.float32(3e-4)
    assert Optim(lr=lr) == Optim(lr=float(lr))
    assert type(Optim(lr=np.float64(3e-4)).lr) is float
    assert Generation(eos=[np.int32(1), 2]) == Generation(eos=[1, 2])
    changed = (train | Model(size="nano")).set("train.seed", np.int64(7))
    assert changed == (train.evolve(seed=7) | Model(size="nano"))
    assert changed.digest == (Train(**train.given() | {"seed": 7}) | Model(size="nano")).digest


@pytest.mark.parametrize(
    ("value", "found"), [(np.float64(8), "the number 8.0"), (np.True_, "a boolean True")]
)
def test_scalars_of_numpy_of_the_wrong_type_are_refused(value: Any, found: str) -> None:
    with pytest.raises(SpecError, match=f"expected an integer of at least 1, found {found}"):
        Train(batch_size=value)


def test_lists_are_kept_as_tuples_so_that_parts_stay_frozen() -> None:
    assert Task.generate(prompts=["a", "b"]).prompts == ("a", "b")
    assert Classifier(labels=["a", "b"]).count == 2
    assert Classifier(labels=4).count == 4


def test_a_path_counts_as_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = Task.pretrain(data=Path("a.txt"), eval_data=Path("b.txt"))  # type: ignore[arg-type]
    recipe = Model(weights=Path("c")) | task  # type: ignore[arg-type]
    assert recipe == Model(weights="c") | Task.pretrain(data="a.txt", eval_data="b.txt")
    assert recipe.set("runtime.output", Path("runs")) == recipe.set("runtime.output", "runs")
    prompts = Task.generate(prompts=Path("p.jsonl"))  # type: ignore[arg-type]
    assert prompts.prompts == "p.jsonl"
    Path("spec.toml").write_text(recipe.to_toml())
    assert Recipe.load(Path("spec.toml")) == recipe
    Path("chain.toml").write_text((recipe >> recipe.set("train.seed", 1)).to_toml())
    assert Chain.load(Path("chain.toml")) == Chain.load("chain.toml")
    with pytest.raises(SpecError, match=r"expected one of .*, found PosixPath"):
        Model(size=Path("124m"))  # type: ignore[arg-type]


def test_every_field_says_what_it_means_and_what_it_expects() -> None:
    for cls in (*TABLES.values(), *TASKS.values()):
        if cls is Task:
            continue
        for field in cls.fields():
            assert field.metadata[RULE].doc
            assert field.metadata[RULE].expected


def test_defaults_are_values_that_the_fields_accept() -> None:
    for cls in (*TABLES.values(), *TASKS.values()):
        if cls is Task:
            continue
        for field in cls.fields():
            if field.default is not attrs.NOTHING and field.default != ():
                assert field.metadata[RULE].problem(field.default) is None, field.name


def test_what_leaving_a_choice_out_means_is_no_option_of_it() -> None:
    with pytest.raises(SpecError, match=r"expected one of nano, 124m, .*, found 'tiny'"):
        Model(size="tiny")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learning_rate", "Trainer's learning_rate is optim.lr here"),
        ("num_train_epochs", "Trainer's num_train_epochs is train.epochs here"),
        ("fp16", 'Trainer\'s fp16 is precision.compute = "float16" here'),
        (
            "per_device_train_batch_size",
            "Trainer's per_device_train_batch_size is train.batch_size over all devices here",
        ),
        (
            "logging_steps",
            "Trainer's logging_steps has no key here: metrics.jsonl has every step",
        ),
        ("weight_decay", "Optim has weight_decay"),
    ],
)
def test_the_names_of_trainer_are_told_ours(name: str, hint: str) -> None:
    wrong: dict[str, Any] = {name: 1}
    with pytest.raises(SpecError) as refused:
        Train(**wrong)
    (fault,) = refused.value.faults
    assert fault.message == f"unknown key; {hint}"


def test_the_names_of_trainer_stand_for_keys_that_exist() -> None:
    parts = {table: part for table, part in TABLES.items() if table != "task"}
    keys = {f"{table}.{key}" for table, part in parts.items() for key in part.rules()}
    for argument in trainer.ARGUMENTS:
        named = re.findall(r"`(\w+\.\w+)( =[^`]*)?`", argument.here)
        assert {key for key, _ in named} <= keys | {"task.eval_data"}
        for name in argument.names:
            table = named[0][0].partition(".")[0] if named else "train"
            key = trainer.field(name, table)
            assert f"{table}.{key}" in keys or not named
