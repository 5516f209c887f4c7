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
