from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import SpecError
from gpt2dsl.spec.mindformers import carrying, document
from gpt2dsl.spec.mindformers.document import ConfigEntry
from tests.spec.mindformers_files import write


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lr_schedule.lr_ned", "lr_schedule.lr_end"),
        ("runner_config.batch_siz", "runner_config.batch_size"),
        ("optimizer.learning_rate", "lr_schedule.learning_rate"),
        ("optimiser.type", "optimizer.type"),
        ("eod_reset", "train_dataset.eod_reset"),
        ("epochs", "runner_config.epochs"),
        ("model_config.num_layers", "model.model_config.num_layers"),
        ("train_dataset.num_paralel_workers", "train_dataset.num_parallel_workers"),
        ("model.model_config.pet_config.lora_rnk", "model.model_config.pet_config.lora_rank"),
        ("callbacks[CheckpointMonitor].type", "callbacks[CheckpointMointor].type"),
        ("parallel.enable_alltoall", ""),
        ("other.type", ""),
        ("batch_size", ""),
    ],
)
def test_only_a_near_key_is_suggested(tmp_path: Path, key: str, meant: str) -> None:
    entries = document.read(write(tmp_path, "run_gpt2"))
    absent = [entry for entry in entries if entry.key != meant]
    for known in (entries, absent):
        with pytest.raises(SpecError) as error:
            carrying.carry([*known, ConfigEntry(key, 1, "a.yaml:1")])
        (fault,) = error.value.faults
        hint = f"did you mean {meant}? Delete" if meant else "delete"
        assert fault.message.endswith(f"no such key; {hint} the line if it is not needed")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("predict_data", ["a"]),
        ("eval_step_interval", 10),
        ("model.model_config.pet_config.lora_rank", 8),
        ("saving.keep_checkpoint_max", 3),
    ],
)
def test_keys_of_another_mode_are_known_in_each(tmp_path: Path, key: str, value: Any) -> None:
    for mode in ("train", "finetune", "eval", "predict"):
        entries = document.read(write(tmp_path, "run_gpt2", {"run_mode": mode, key: value}))
        carrying.carry(entries)


def _with_ratio(folder: Path, ratio: object) -> carrying.Imported:
    key = "model.model_config.expand_ratio"
    entries = [entry for entry in document.read(write(folder, "run_gpt2")) if entry.key != key]
    return carrying.carry([*entries, ConfigEntry(key, ratio, "a.yaml:1")])


@pytest.mark.parametrize(("ratio", "inner"), [("4", None), (2, 1536), ("2.5", 1920), (4.0, None)])
def test_a_number_in_quotes_is_one(tmp_path: Path, ratio: object, inner: int | None) -> None:
    assert _with_ratio(tmp_path, ratio).tables["model"].get("inner") == inner


@pytest.mark.parametrize(
    ("ratio", "message"),
    [
        ("four", "expected a number, found 'four'"),
        ([4], "expected a number, found [4]"),
        (True, "expected a number, found True"),
        (0, "expected a number above 0, found 0"),
        (".nan", "expected a number, found '.nan'"),
        ("inf", "expected a number above 0, found 'inf'"),
    ],
)
def test_what_is_no_number_is_refused_by_name(tmp_path: Path, ratio: object, message: str) -> None:
    with pytest.raises(SpecError) as error:
        _with_ratio(tmp_path, ratio)
    (fault,) = error.value.faults
    assert (fault.origin, fault.key) == ("a.yaml:1", "model.model_config.expand_ratio")
    assert fault.message == message
