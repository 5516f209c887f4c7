from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import (
    Classifier,
    Data,
    LoRA,
    Model,
    Optim,
    Parallel,
    Precision,
    Recipe,
    Runtime,
    Schedule,
    SpecError,
    Task,
    Train,
)  # fmt: skip
from gpt2dsl.parts import Part
from gpt2dsl.spec.mindformers import carrying, command, document
from gpt2dsl.spec.mindformers.carrying import Imported
from gpt2dsl.spec.mindformers.key_reader import CARRIED
from gpt2dsl.spec.mindformers.keys import NO_COUNTERPART, NO_EFFECT
from tests.spec.mindformers_files import CHANGES, write

PRETRAIN = Task.pretrain(data="train.mindrecord")
FINETUNE = Task.finetune(data="train.mindrecord")
HALF = Precision(params="float16", compute="float16")
ASCEND, RECORDS = Runtime(device="ascend"), Data(format="mindrecord")
QUERIES_VALUES = LoRA(r=64, alpha=128, dropout=0.1, targets="[qv]")

EXPECTED: dict[str, list[Part]] = {
    "run_gpt2": [
        Model(size="124m"), Train(batch_size=4, epochs=3, save_every=1),
        Optim(bias_correction=False), PRETRAIN,
    ],
    "run_gpt2_xl": [
        Model(size="1.5b", activation="fast_gelu"),
        Parallel(dp=8, optimizer_shard=True, recompute="full"),
        Train(batch_size=64, epochs=2, save_every=500),
        Optim(lr=5e-5, bias_correction=False), Schedule(warmup=2000, end=1e-6), HALF, PRETRAIN,
    ],
    "run_gpt2_13b": [
        Model(size="13b", activation="fast_gelu"),
        Parallel(dp=4, mp=8, optimizer_shard=True, recompute="full"),
        Train(batch_size=8, seq_length=2048, epochs=2, save_every=500),
        Optim(lr=5e-5, bias_correction=False), Schedule(warmup=2000, end=1e-6), HALF, PRETRAIN,
    ],
    "run_gpt2_13b_910b": [
        Model(size="13b", activation="fast_gelu"),
        Parallel(dp=8, optimizer_shard=True, recompute="full"),
        Train(batch_size=16, seq_length=2048, epochs=2, save_every=500),
        Optim(lr=5e-5, bias_correction=False), Schedule(end=1e-6), HALF, PRETRAIN,
    ],
    "run_gpt2_52b": [
        Model(size="52b", activation="fast_gelu"),
        Parallel(dp=8, pp=16, micro_batches=64, optimizer_shard=True, recompute="full"),
        Train(batch_size=1024, epochs=2, save_every=100),
        Optim(lr=5e-5, bias_correction=False), Schedule(warmup=2000, end=1e-6), HALF, PRETRAIN,
    ],
    "run_gpt2_lora": [
        Model(size="124m", weights="gpt2"), QUERIES_VALUES,
        Train(batch_size=8, epochs=3, save_every=1),
        Optim(lr=1e-3, bias_correction=False), Schedule(end=1e-4),
        FINETUNE,
    ],
    "run_gpt2_xl_lora": [
        Model(size="1.5b", weights="gpt2-xl"), QUERIES_VALUES,
        Parallel(dp=8, optimizer_shard=True, recompute="full"),
        Train(batch_size=64, epochs=2, save_every=500),
        Optim(lr=5e-4, bias_correction=False), Schedule(warmup=2000), HALF, FINETUNE,
    ],
    "run_gpt2_txtcls": [
        Model(size="124m", weights="random"), Classifier(labels=2),
        Train(batch_size=16, epochs=1, save_every=100),
        Optim(bias_correction=False), FINETUNE,
    ],
}  # fmt: skip


def imported(path: Path) -> Imported:
    return carrying.carry(document.read(path))


def recipe_of(found: Imported) -> Recipe:
    return Recipe(*found.parts())


@pytest.mark.parametrize("name", CHANGES)
def test_each_configuration_is_the_recipe_of_its_values(tmp_path: Path, name: str) -> None:
    expected = Recipe(*EXPECTED[name], ASCEND, RECORDS)
    assert recipe_of(imported(write(tmp_path, name))) == expected


@pytest.mark.parametrize("name", CHANGES)
def test_no_key_is_dropped(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    found = imported(path)
    assert [line.entry for line in found.lines] == document.read(path)
    assert all(line.words for line in found.lines if line.fate != CARRIED)
    assert {line.fate for line in found.lines} <= {CARRIED, NO_EFFECT, NO_COUNTERPART}


def fate(tmp_path: Path, key: str, value: Any, name: str = "run_gpt2") -> tuple[str, str]:
    found = imported(write(tmp_path, name, {key: value}))
    (line,) = (one for one in found.lines if one.entry.key == key)
    return line.fate, line.words


def test_a_value_without_a_counterpart_is_named_only_where_it_counts(tmp_path: Path) -> None:
    key = "micro_batch_interleave_num"
    assert fate(tmp_path, key, 1)[0] == NO_EFFECT
    assert fate(tmp_path, key, 2)[0] == NO_COUNTERPART
    rate = "model.model_config.attention_dropout_rate"
    assert fate(tmp_path, rate, 0.2) == (
        NO_COUNTERPART, "one rate counts for all: hidden_dropout_rate = 0.1",
    )  # fmt: skip
    assert fate(tmp_path, rate, 0.1)[0] == CARRIED


def test_an_activation_that_published_weights_do_not_have_is_left_to_them(tmp_path: Path) -> None:
    key = "model.model_config.hidden_act"
    assert fate(tmp_path, key, "fast_gelu", "run_gpt2_lora") == (
        NO_EFFECT, "the published weights' own counts: another one would drift in silence",
    )  # fmt: skip
    changes = {"load_checkpoint": "mine.ckpt", key: "fast_gelu"}
    recipe = recipe_of(imported(write(tmp_path, "run_gpt2_lora", changes)))
    model = recipe.parts["model"]
    assert model == Model(size="124m", weights="mine.ckpt", activation="fast_gelu")


def test_unknown_and_misspelt_keys_are_named_with_their_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "run_gpt2", {"runner_config.bach_size": 4, "optimiser": {"lr": 1}})
    with pytest.raises(SpecError) as error:
        imported(path)
    lines = path.read_text().splitlines()
    said = [(fault.origin, fault.key, fault.message) for fault in error.value.faults]
    unknown, cure = "MindFormers 0.8's GPT-2 knows no such key", "the line if it is not needed"
    assert said == [
        (
            f"{path}:{lines.index('  bach_size: 4') + 1}",
            "runner_config.bach_size",
            f"{unknown}; did you mean runner_config.batch_size? Delete {cure}",
        ),
        (f"{path}:{lines.index('  lr: 1') + 1}", "optimiser.lr", f"{unknown}; delete {cure}"),
    ]


def test_an_unknown_option_of_a_command_is_to_be_left_out(tmp_path: Path) -> None:
    write(tmp_path, "run_gpt2")
    with pytest.raises(SpecError, match="delete the option if it is not needed"):
        said(tmp_path, "run_mindformer.py --config run_gpt2.yaml --optimizer.foo 1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run_mode": "trian"}, "expected one of train, finetune, eval, predict, found 'trian'"),
        ({"optimizer.type": "Lamb"}, "expected one of FusedAdamWeightDecay"),
        ({"lr_schedule.type": "wsd"}, "expected one of polynomial, linear"),
        ({"lr_schedule.learning_rate": "high"}, "expected a number, found 'high'"),
        ({"model.model_config.hidden_act": "swish"}, "expected one of gelu, fast_gelu, relu"),
    ],
)
def test_values_that_can_not_be_carried_over_are_faults(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as error:
        imported(write(tmp_path, "run_gpt2", changes))
    assert message in str(error.value)


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "run_gpt2", {"lr_schedule.learning_rate": "5e-5"})
    assert "5e-5" in path.read_text()
    optim = recipe_of(imported(path)).parts["optim"]
    assert optim == Optim(lr=5e-5, bias_correction=False)


def test_evaluation_and_prediction_take_their_own_keys(tmp_path: Path) -> None:
    changes = {"run_mode": "eval", "eval_dataset.data_loader.dataset_dir": "wiki.mindrecord"}
    found = recipe_of(imported(write(tmp_path, "run_gpt2", changes)))
    assert found == Recipe(
        Model(size="124m", weights="gpt2"), Train(batch_size=4), ASCEND, RECORDS,
        Task.evaluate(data="wiki.mindrecord"),
    )  # fmt: skip
    found = recipe_of(imported(write(tmp_path, "run_gpt2", {"run_mode": "predict"})))
    assert found.parts["task"] == Task.generate(prompts=[""])
    generation = found.parts["generation"]
    assert (generation.top_k, generation.do_sample, generation.max_length) == (5, True, 1024)  # type: ignore[attr-defined]
    assert "train" not in found.parts


@pytest.mark.parametrize(("named", "held_out"), [("v.mindrecord",) * 2, ("", "eval.mindrecord")])
def test_held_out_data_is_read_where_do_eval_is_on_and_an_empty_name_has_a_placeholder(
    tmp_path: Path, named: str, held_out: str
) -> None:
    key = "eval_dataset.data_loader.dataset_dir"
    changes = {"do_eval": True, key: named, "eval_step_interval": 7}
    found = imported(write(tmp_path, "run_gpt2", changes))
    parts = recipe_of(found).parts
    assert parts["task"].eval_data == held_out  # type: ignore[attr-defined]
    assert parts["train"].evaluate_every == 7  # type: ignore[attr-defined]
    fates = {line.entry.key: line.words for line in found.lines}
    told = "" if named else "; it is empty: eval.mindrecord stands for it"
    assert fates[key] == f"task.eval_data{told}"
    found = imported(write(tmp_path, "run_gpt2", {**changes, "do_eval": False}))
    assert recipe_of(found).parts["task"].eval_data == ""  # type: ignore[attr-defined]
    told_of = {line.entry.key: (line.fate, line.words) for line in found.lines}
    assert told_of[key] == ("no effect", "read where do_eval is on")


def test_the_batch_is_the_global_one_by_their_arithmetic(tmp_path: Path) -> None:
    def batch(changes: dict[str, Any], devices: int | None = None) -> tuple[int, int]:
        entries = document.read(write(tmp_path, "run_gpt2", changes))
        parts = recipe_of(carrying.carry(entries, devices)).parts
        parallel = parts.get("parallel", Parallel())
        return parts["train"].batch_size, parallel.dp  # type: ignore[attr-defined]

    semi = {"use_parallel": True, "parallel.parallel_mode": 1, "parallel_config.data_parallel": 2}
    assert batch(semi) == (8, 2)
    piped = {"parallel_config.pipeline_stage": 2, "parallel_config.micro_batch_num": 4}
    assert batch({**semi, **piped}) == (32, 2)
    assert batch({**semi, "parallel.parallel_mode": "SEMI_AUTO_PARALLEL"}) == (8, 2)
    assert batch({"use_parallel": True}, devices=8) == (32, 8)
    named = {"use_parallel": True, "parallel.parallel_mode": "DATA_PARALLEL"}
    assert batch(named, devices=8) == (32, 8)
    assert batch({"parallel_config.data_parallel": 8}) == (4, 1)
    scaled = {**semi, "lr_scale": True}
    entries = document.read(write(tmp_path, "run_gpt2", scaled))
    optim = recipe_of(carrying.carry(entries)).parts["optim"]
    assert optim.lr == pytest.approx(1e-4 * 8 / 256)  # type: ignore[attr-defined]


def test_damaged_files_are_one_fault(tmp_path: Path) -> None:
    for text, said in (
        ("a: [1", "not valid"),
        ("- 1\n", "expected a table of keys"),
        ("seed: 1\nrun_mode: train\nseed: 2\n", "written twice, first in line 1"),
        ("callbacks:\n  - 1\n", "expected a list of tables"),
    ):
        path = tmp_path / "a.yaml"
        path.write_text(text)
        with pytest.raises(SpecError, match=said):
            document.read(path)
    with pytest.raises(SpecError, match="No such file"):
        document.read(tmp_path / "none.yaml")


def said(tmp_path: Path, text: str) -> Recipe:
    found = command.read(text, tmp_path)
    return recipe_of(carrying.carry(found.entries, found.devices))


def test_command_lines_lie_over_their_yaml(tmp_path: Path) -> None:
    write(tmp_path, "run_gpt2")
    found = said(
        tmp_path,
        "python run_mindformer.py --config run_gpt2.yaml --run_mode finetune --epochs=1 "
        "--train_dataset_dir wiki.mindrecord --load_checkpoint mine.ckpt --optimizer.beta2 0.99",
    )
    assert found.parts["task"] == Task.finetune(data="wiki.mindrecord")
    assert found.parts["train"] == Train(batch_size=4, epochs=1, save_every=1)
    assert found.parts["optim"] == Optim(beta2=0.99, bias_correction=False)


def test_run_distribute_says_devices_rank_table_and_mode(tmp_path: Path) -> None:
    write(tmp_path, "run_gpt2_13b")
    line = "bash run_distribute.sh hccl.json run_gpt2_13b.yaml [0,8] train 32"
    found = said(tmp_path, line)
    assert found.parts["runtime"] == Runtime(device="ascend", rank_table="hccl.json")
    assert found.parts["parallel"] == EXPECTED["run_gpt2_13b"][1]
    write(tmp_path, "run_gpt2")
    line = "bash run_distribute.sh hccl.json run_gpt2.yaml [0,8] predict 'I love Beijing'"
    found = said(tmp_path, line)
    assert found.parts["task"] == Task.generate(prompts=["I love Beijing"])
    assert found.parts["parallel"] == Parallel(dp=8)
    line = "bash run_standalone.sh run_gpt2.yaml 0 finetune"
    assert said(tmp_path, line).parts["task"] == FINETUNE


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("python train.py", "expected run_mindformer.py or run_distribute.sh"),
        ("python run_mindformer.py --run_mode train", "--config: missing"),
        ("python run_mindformer.py --config a.yaml --epoch 3", "did you mean epochs"),
        ("python run_mindformer.py --config a.yaml --epochs", "its value is missing"),
        ("python run_mindformer.py --config none.yaml", "No such file"),
        ("bash run_distribute.sh t.json a.yaml 0-8 train", r"expected \[0,8\], found '0-8'"),
        ("bash run_distribute.sh t.json", "expected RANK_TABLE CONFIG"),
        ("python 'run_mindformer.py", "not a command line"),
    ],
)
def test_wrong_command_lines_are_told(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text("seed: 1\n")
    with pytest.raises(SpecError, match=message):
        command.read(line, tmp_path)
