from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel, GPT2Model

from gpt2dsl import Recipe, Task
from gpt2dsl.errors import InputError, SpecError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.weights import opening, reading
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.infer_config import Overrides
from tests import adapters
from tests.weights.conftest import random_arrays

IDS = torch.arange(24).reshape(2, 12)


def trained(base: Path, folder: Path, kind: Any = GPT2LMHeadModel, **config: Any) -> Any:
    """An adapter that PEFT trained for a few steps, saved; the model that has it."""
    torch.manual_seed(0)
    model = get_peft_model(
        kind.from_pretrained(base, pad_token_id=0), LoraConfig(fan_in_fan_out=True, **config)
    ).train()
    labels = IDS if kind is GPT2LMHeadModel else torch.tensor([0, 1])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=3.0)
    for _ in range(3):
        optimizer.zero_grad()
        model(IDS, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return model.eval()


def merged(folder: Path, kind: Any = GPT2LMHeadModel) -> Any:
    """transformers with the weights that are read here."""
    found = reading.read(folder)
    state = {name: torch.from_numpy(np.array(array)) for name, array in found.arrays.items()}
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    model = kind.from_pretrained(base).eval()
    assert set(model.load_state_dict(state, strict=False).missing_keys) <= {"lm_head.weight"}
    return model


@pytest.mark.parametrize(
    "config",
    [
        {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn"]},
        {"r": 2, "target_modules": ["c_attn", "c_proj", "c_fc"], "lora_dropout": 0.1},
        {"r": 4, "target_modules": ["attn.c_proj"], "use_rslora": True},
        {
            "r": 4, "target_modules": ["c_attn", "c_fc"], "layers_to_transform": [1],
            "rank_pattern": {"c_fc": 3}, "alpha_pattern": {"c_attn": 5},
        },
    ],
)  # fmt: skip
def test_an_adapter_that_peft_trained_gives_the_same_logits(
    folder: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    theirs = trained(folder, tmp_path / "adapter", **config)
    with torch.no_grad():
        expected = theirs(IDS).logits
        plain = GPT2LMHeadModel.from_pretrained(folder).eval()(IDS).logits
        found = merged(tmp_path / "adapter")(IDS).logits
    assert (expected - plain).abs().max() > 0.05
    assert (expected - found).abs().max() < 1e-4


def test_a_classifier_that_peft_trained_has_its_score(tmp_path: Path, geometry: GPT2Config) -> None:
    base = tmp_path / "base"
    base.mkdir()
    huggingface.write(base, geometry, random_arrays(geometry))
    theirs = trained(
        base, tmp_path / "adapter", GPT2ForSequenceClassification, r=2, task_type="SEQ_CLS",
        target_modules=["c_attn"],
    )  # fmt: skip
    found = reading.read(tmp_path / "adapter")
    assert found.geometry.labels == 2
    score = theirs.base_model.model.score.modules_to_save["default"].weight.detach().numpy()
    assert np.array_equal(found.arrays["score.weight"], score)
    whole = convert(tmp_path / "adapter", tmp_path / "whole", merge=True)
    _, info = GPT2ForSequenceClassification.from_pretrained(whole, output_loading_info=True)
    assert not any(info.values())
    assert reading.read_info(whole).geometry == found.geometry
    there = convert(tmp_path / "adapter", tmp_path / "there", merge=True, to="mindformers")
    assert reading.read_info(there).geometry == found.geometry


def test_an_adapters_classifier_reads_up_to_the_id_that_is_said_and_to_the_end_without(
    tmp_path: Path, geometry: GPT2Config
) -> None:
    base, folder = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    huggingface.write(base, geometry, random_arrays(geometry))
    theirs = trained(
        base, folder, GPT2ForSequenceClassification, r=2, task_type="SEQ_CLS",
        target_modules=["c_attn"],
    )  # fmt: skip
    assert "pad_token_id" not in opening.opened(folder, Overrides()).config
    theirs.config.save_pretrained(folder)
    assert opening.opened(folder, Overrides()).config["pad_token_id"] == 0


def convert(source: Path, target: Path, **keys: Any) -> Path:
    Recipe(Task.convert(source=str(source), target=str(target), **keys)).plan().run()
    return target


@pytest.mark.parametrize("blocks", [None, [1]])
def test_an_adapter_that_is_written_here_loads_in_peft(
    folder: Path, tmp_path: Path, blocks: list[int] | None
) -> None:
    theirs = trained(
        folder, tmp_path / "adapter", r=4, lora_alpha=3, use_rslora=True,
        target_modules=["c_attn", "c_fc"], rank_pattern={"c_fc": 2}, layers_to_transform=blocks,
    )  # fmt: skip
    written = convert(tmp_path / "adapter", tmp_path / "written", to="peft")
    base = GPT2LMHeadModel.from_pretrained(folder)
    ours = PeftModel.from_pretrained(base, written).eval()
    names = {name for name, _ in ours.named_parameters() if "lora_" in name}
    assert names == {name for name, _ in theirs.named_parameters() if "lora_" in name}
    with torch.no_grad():
        assert (theirs(IDS).logits - ours(IDS).logits).abs().max() < 1e-5


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of rank 2 on c_attn."""
    folder = tmp_path_factory.mktemp("small")
    base = adapters.save_base(folder / "base")
    adapters.save_adapter(base, folder / "a", r=2, target_modules=["c_attn"], task_type="CAUSAL_LM")
    return folder / "a"


def _change(folder: Path, **keys: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3': only LORA is read here"),
        ({"use_dora": True}, "use_dora is True, but of a magnitude the file has none"),
        ({"bias": "some"}, "bias is 'some': none, all or lora_only is expected"),
        ({"target_modules": ["c_fc"]}, "target_modules and the keys beside it do not name it"),
        ({"exclude_modules": "transformer.h.0.*"}, "the keys beside it do not name it"),
        ({"layers_to_transform": [1]}, "the keys beside it do not name it"),
        ({"target_modules": ["ln_1"]}, "target_modules names transformer.h.0.ln_1, which PEFT"),
        ({"target_modules": "("}, "target_modules and its like are no patterns"),
        (
            {"target_modules": ["c_attn", "c_fc"], "init_lora_weights": False},
            "the file has no adapter of it, and with init_lora_weights = False PEFT would make one",
        ),
        (
            {"modules_to_save": ["ln_f"]},
            "modules_to_save: transformer.ln_f.bias is missing in the file",
        ),
        ({"modules_to_save": ["attn"], "target_modules": ["c_fc"]}, "which is in it"),
        ({"trainable_token_indices": [1]}, "and the file do not agree on rows of transformer.wte"),
        ({"layer_replication": [[0, 2]]}, "PEFT has it for no GPT-2"),
        ({"alora_invocation_tokens": [1, 2]}, "an adapter that tokens switch on can't be added"),
        ({"target_parameters": ["c_attn.weight"]}, "name modules in target_modules"),
        ({"kasa_config": {}}, "PEFT has KaSA for no Conv1D"),
        ({"init_lora_weights": "pissa_niter_4"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "olora"}, "PEFT has no OLoRA for a Conv1D that is not square"),
        ({"r": 5}, "its rank is 2, the configuration says 5"),
        ({"lora_alpha": 10**400}, "lora_alpha is 1000.*, a number is expected"),
        ({"modules_to_save": [1]}, "modules_to_save are no names of modules"),
        ({"rank_pattern": ["x"]}, "rank_pattern or alpha_pattern is no pattern"),
        ({"alpha_pattern": {"(": 3}}, "rank_pattern or alpha_pattern is no pattern"),
        ({"lora_alpha": None}, "lora_alpha is None, a number is expected"),
        (
            {"base_model_name_or_path": None},
            "base_model_name_or_path is empty: write the name of its base",
        ),
        ({"base_model_name_or_path": "/no/where"}, "its base can't be used: /no/where: there is"),
    ],
)
def test_what_can_not_be_read_right_is_refused(
    small: Path, tmp_path: Path, keys: dict[str, Any], said: str
) -> None:
    shutil.copytree(small, tmp_path / "adapter")
    _change(tmp_path / "adapter", **keys)
    with pytest.raises(SpecError, match=said) as caught:
        reading.read(tmp_path / "adapter")
    assert "\n" not in str(caught.value)


def test_a_layer_norm_in_an_adapter_takes_the_place_of_the_bases(
    folder: Path, tmp_path: Path
) -> None:
    theirs = trained(
        folder, tmp_path / "a", r=2, target_modules=["c_attn"], modules_to_save=["ln_f"]
    )
    with torch.no_grad():
        assert (theirs(IDS).logits - merged(tmp_path / "a")(IDS).logits).abs().max() < 1e-4


def test_an_adapter_of_the_model_without_a_head_keeps_its_names(
    folder: Path, tmp_path: Path
) -> None:
    config = LoraConfig(
        r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False,
        alpha_pattern={"^h.0.attn.c_attn": 50},
    )  # fmt: skip
    theirs = get_peft_model(GPT2Model.from_pretrained(folder), config).eval()
    theirs.save_pretrained(tmp_path / "a")
    found = opening.adapter(tmp_path / "a", Overrides()).modules["transformer.h.0.attn.c_attn"]
    assert found.scale == 25
    written = convert(tmp_path / "a", tmp_path / "b", to="peft")
    ours = PeftModel.from_pretrained(GPT2Model.from_pretrained(folder), written).eval()
    with torch.no_grad():
        difference = theirs(IDS).last_hidden_state - ours(IDS).last_hidden_state
    assert difference.abs().max() < 1e-5


def test_an_adapter_on_itself_is_told(folder: Path, tmp_path: Path) -> None:
    trained(folder, tmp_path / "a", r=2, target_modules=["c_attn"])
    _change(tmp_path / "a", base_model_name_or_path=str(tmp_path / "a"))
    with pytest.raises(InputError, match="it is an adapter itself; merge that one first"):
        reading.read_info(tmp_path / "a")


def test_another_base_can_be_named_and_must_fit(
    folder: Path, tmp_path: Path, geometry: GPT2Config
) -> None:
    trained(folder, tmp_path / "adapter", r=2, target_modules=["c_attn"])
    _change(tmp_path / "adapter", base_model_name_or_path="")
    overrides = Overrides(base=str(folder))
    assert reading.read_info(tmp_path / "adapter", overrides).geometry == geometry
    wide = GPT2Config(layers=2, heads=2, hidden=16, positions=16, vocab=geometry.vocab)
    other = tmp_path / "other"
    other.mkdir()
    huggingface.write(other, wide, random_arrays(wide))
    with pytest.raises(InputError, match=r"2 that do not fit the base: transformer\.h\.0"):
        reading.read_info(tmp_path / "adapter", Overrides(base=str(other)))
