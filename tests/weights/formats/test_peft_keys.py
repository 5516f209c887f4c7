from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, seed, settings
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from gpt2dsl import Recipe, Task, load
from gpt2dsl.errors import InputError, SpecError
from gpt2dsl.schema.adapter_config import TABLE
from gpt2dsl.weights import opening, reading
from gpt2dsl.weights.infer_config import Overrides
from tests import adapters
from tests.adapters import load_adapter, lora_configs, outputs, read_outputs, save_adapter


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapters.save_base(tmp_path_factory.mktemp("base") / "b")


LM: dict[str, Any] = {"task_type": "CAUSAL_LM", "r": 2, "target_modules": ["c_attn"]}
CASES: dict[str, dict[str, Any]] = {
    "biases of all modules": LM | {"bias": "all"},
    "biases of adapted modules": LM | {"bias": "lora_only", "target_modules": ["c_fc"]},
    "biases beside a saved module": LM | {"bias": "all", "modules_to_save": ["ln_f"]},
    "modules saved whole": LM | {"modules_to_save": ["wpe", "ln_1", "mlp"]},
    "another module saved whole": LM
    | {"target_modules": ["c_fc"], "modules_to_save": ["c_attn"]},
    "a bias of B": LM | {"lora_bias": True, "lora_alpha": 7},
    "DoRA": LM | {"use_dora": True, "target_modules": ["c_attn", "c_fc", "wpe"]},
    "DoRA with rsLoRA and patterns": LM
    | {"use_dora": True, "use_rslora": True, "rank_pattern": {"h.1.attn.c_attn": 3}},
    "PiSSA": LM | {"init_lora_weights": "pissa", "target_modules": "all-linear"},
    "PiSSA with DoRA": LM | {"init_lora_weights": "pissa", "use_dora": True},
    "OLoRA": LM | {"init_lora_weights": "olora", "target_modules": ["attn.c_proj"]},
    "an adapter of the positions": LM | {"target_modules": ["wpe"], "lora_alpha": 5},
    "rows of the word table": LM | {"trainable_token_indices": [1, 39]},
    "rows of the positions": LM | {"trainable_token_indices": {"wpe": [0, 2]}},
    "excluded modules": LM
    | {"target_modules": ["c_attn", "c_proj"], "exclude_modules": ["0.attn.c_proj", "mlp.c_proj"]},
    "some blocks": LM
    | {"layers_to_transform": 1, "layers_pattern": "h", "init_lora_weights": False},
    "a word table of its own": LM | {"modules_to_save": ["wte"]},
    "a head of its own": LM | {"modules_to_save": ["lm_head"], "use_dora": True},
    "both of its own": LM | {"modules_to_save": ["wte", "lm_head"], "bias": "all"},
    "an adapter of the word table": LM | {"target_modules": ["wte", "c_fc"], "use_dora": True},
    "an adapter of the head": LM | {"target_modules": ["lm_head"], "init_lora_weights": "olora"},
    "rows of the head": LM | {"trainable_token_indices": {"lm_head": [2, 3]}},
    "a whole name beside some blocks": LM
    | {"target_modules": ["transformer.h.0.attn.c_attn", "c_fc"], "layers_to_transform": 1},
    "GPT2Model": {"task_type": "FEATURE_EXTRACTION", "r": 2, "bias": "all", "use_dora": True},
    "a classifier": {"task_type": "SEQ_CLS", "r": 2, "modules_to_save": ["wte"], "lora_bias": True},
}  # fmt: skip
"""Neighbours of each key of LoRA that changes what is computed."""


@pytest.mark.parametrize("case", CASES)
def test_each_key_of_peft_gives_the_outputs_of_peft_and_goes_back_to_it(
    base: Path, tmp_path: Path, case: str
) -> None:
    config = CASES[case]
    theirs = outputs(save_adapter(base, tmp_path / "a", **config))
    task = config["task_type"]
    assert np.abs(theirs - outputs(adapters.base_model(base, task))).max() > 0.01
    assert np.abs(theirs - read_outputs(tmp_path / "a", base, task)).max() < 1e-4
    _convert(tmp_path / "a", tmp_path / "peft", to="peft")
    assert np.abs(theirs - outputs(load_adapter(base, tmp_path / "peft", task))).max() < 1e-6
    written = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert written == json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    _convert(tmp_path / "a", tmp_path / "hf", to="hf", merge=True)
    assert np.abs(theirs - read_outputs(tmp_path / "hf", base, task)).max() < 1e-4


def _convert(source: Path, target: Path, **keys: Any) -> None:
    Recipe(Task.convert(source=str(source), target=str(target), **keys)).plan().run()


agreed: list[bool] = []


@seed(23)
@settings(max_examples=25, deadline=None, database=None)
@given(config=lora_configs())
def test_any_adapter_of_peft_gives_its_outputs_or_is_refused_by_name(
    base: Path, config: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "a"
        try:
            theirs = outputs(save_adapter(base, folder, **config))
        except Exception:  # noqa: BLE001  # PEFT objects in many ways
            assume(False)
        try:
            ours = read_outputs(folder, base, config["task_type"])
        except SpecError as error:
            refused = str(error)
        else:
            refused = ""
            assert np.abs(theirs - ours).max() < 1e-4
    assert not refused or "adapter_config.json: " in refused
    agreed.append(not refused)


def test_most_of_those_adapters_agree() -> None:
    assert not agreed or sum(agreed) >= 0.8 * len(agreed)


def test_the_table_has_every_key_of_peft(base: Path, tmp_path: Path) -> None:
    save_adapter(base, tmp_path / "a", **LM)
    written = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert written.keys() <= TABLE.keys()
    assert LoraConfig.__dataclass_fields__.keys() <= TABLE.keys()


def test_a_key_that_nobody_knows_is_told(base: Path, tmp_path: Path) -> None:
    save_adapter(base, tmp_path / "a", **LM)
    path = tmp_path / "a" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_new_lora": 3}))
    assert any("use_new_lora = 3" in note for note in reading.read_info(tmp_path / "a").unknown)


@pytest.mark.parametrize("own", ["base", "here"])
def test_a_base_and_its_adapter_in_one_folder_are_read_as_transformers_does(
    base: Path, tmp_path: Path, own: str
) -> None:
    """The base is the one that the adapter names, wherever that lies."""
    theirs = outputs(save_adapter(base, tmp_path / "a", **LM))
    both = tmp_path / "a"
    shutil.copy(base / "config.json", both)
    model = GPT2LMHeadModel.from_pretrained(base)
    if own == "base":
        with torch.no_grad():
            model.transformer.ln_f.weight += 1
    model.save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", both)
    if own == "here":
        path = both / "adapter_config.json"
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(both)})
        )
    judge = outputs(AutoModelForCausalLM.from_pretrained(both).eval())
    assert np.abs(judge - theirs).max() < 1e-6
    assert np.abs(judge - read_outputs(both, base, "CAUSAL_LM")).max() < 1e-4
    logits = load(str(both)).logits(adapters.IDS.tolist())
    assert np.abs(judge - logits).max() < 1e-4
    alone = read_outputs(both / "model.safetensors", base, "CAUSAL_LM")
    assert np.abs(alone - outputs(model.eval())).max() < 1e-4


@pytest.mark.parametrize("ending", ["bin", "shards"])
def test_a_base_of_another_form_beside_an_adapter_is_passed_over_too(
    base: Path, tmp_path: Path, ending: str
) -> None:
    theirs = outputs(save_adapter(base, tmp_path / "a", **LM))
    model = GPT2LMHeadModel.from_pretrained(base)
    size = "20KB" if ending == "shards" else "1GB"
    model.save_pretrained(
        tmp_path / "other", max_shard_size=size, safe_serialization=ending != "bin"
    )
    shutil.copytree(tmp_path / "other", tmp_path / "a", dirs_exist_ok=True)
    assert np.abs(theirs - read_outputs(tmp_path / "a", base, "CAUSAL_LM")).max() < 1e-4


def test_an_adapter_config_without_its_tensors_is_refused(base: Path, tmp_path: Path) -> None:
    save_adapter(base, tmp_path / "a", **LM)
    shutil.copytree(base, tmp_path / "a", dirs_exist_ok=True)
    (tmp_path / "a" / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: it is not there, but"):
        reading.read_info(tmp_path / "a")


def test_an_adapters_tensors_without_its_config_leave_the_base_as_it_is(
    base: Path, tmp_path: Path
) -> None:
    save_adapter(base, tmp_path / "a", **LM)
    shutil.copytree(base, tmp_path / "a", dirs_exist_ok=True)
    (tmp_path / "a" / "adapter_config.json").unlink()
    judge = outputs(AutoModelForCausalLM.from_pretrained(tmp_path / "a").eval())
    assert np.abs(judge - read_outputs(tmp_path / "a", base, "CAUSAL_LM")).max() < 1e-4


def test_a_word_table_that_grew_with_the_adapter_is_read(base: Path, tmp_path: Path) -> None:
    """PEFT saves the table and the head, where words were added before the training."""
    model = adapters.base_model(base, "CAUSAL_LM")
    model.resize_token_embeddings(44)
    keys = LM | {"init_lora_weights": False, "fan_in_fan_out": True}
    grown = get_peft_model(model, LoraConfig(**keys))
    grown.save_pretrained(tmp_path / "a", save_embedding_layers=True)
    found = reading.read(tmp_path / "a")
    assert found.geometry.vocab == found.config["vocab_size"] == 44
    again = adapters.base_model(base, "CAUSAL_LM")
    again.resize_token_embeddings(44)
    judge = outputs(PeftModel.from_pretrained(again, tmp_path / "a").eval())
    logits = load(str(tmp_path / "a")).logits(adapters.IDS.tolist())
    assert np.abs(judge - logits).max() < 1e-4


def test_settings_of_generation_are_the_bases(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "b")
    save_adapter(tmp_path / "b", tmp_path / "a", **LM)
    (tmp_path / "b" / "generation_config.json").write_text('{"eos_token_id": 7}')
    (tmp_path / "a" / "generation_config.json").write_text('{"eos_token_id": 8}')
    assert reading.read(tmp_path / "a").defaults.generation == {"eos_token_id": 7}


def test_the_revision_of_a_base_on_the_hub_is_the_one_that_the_adapter_names(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_adapter(base, tmp_path / "a", **LM)
    path = tmp_path / "a" / "adapter_config.json"
    repo = {"base_model_name_or_path": "who/what", "revision": "v2"}
    path.write_text(json.dumps(json.loads(path.read_text()) | repo))
    cache = tmp_path / "hub" / "models--who--what"
    for name in ("main", "v2"):
        commit = name * 8
        shutil.copytree(base, cache / "snapshots" / commit)
        (cache / "refs").mkdir(exist_ok=True)
        (cache / "refs" / name).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    opened = opening.opened(tmp_path / "a", Overrides())
    assert opened.base is not None
    assert opened.base.location.folder.name == "v2" * 8


def test_an_adapter_on_the_hub_is_converted_by_its_name(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub" / "models--who--what"
    save_adapter(base, cache / "snapshots" / "main", **LM)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("main")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    target = tmp_path / "out"
    Recipe(Task.convert(source="who/what", target=str(target), to="peft")).plan().run()
    there = opening.adapter(cache / "snapshots" / "main", Overrides())
    assert list(opening.adapter(target, Overrides()).modules) == list(there.modules)
