"""Folders of different makers: ``inspect`` shows every file and key, and what becomes of it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_model
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    GPT2TokenizerFast,
    PreTrainedModel,
)

from gpt2dsl import Recipe, Task
from gpt2dsl.cli.main import cli
from gpt2dsl.weights import beside, inspection, location, reading
from gpt2dsl.weights.infer_config import Overrides
from tests.folders import small_vocabulary
from tests.weights.checkpoints import whole
from tests.weights.formats.test_nanogpt import ARGS, state

SIZES: dict[str, Any] = {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 16}
Maker = Callable[[Path], Path]


def model(cls: type[PreTrainedModel] = GPT2LMHeadModel, **config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    ends = {"bos_token_id": 263, "eos_token_id": 263}
    return cls(GPT2Config(vocab_size=264, **SIZES, **ends, **config))


def tokenizer(folder: Path, cls: Any) -> Any:
    parts = small_vocabulary(folder.with_name("vocabulary"))
    made = cls(str(parts / "vocab.json"), str(parts / "merges.txt"))
    made.add_special_tokens({"pad_token": "<pad>"})
    made.add_tokens(["<|user|>"], special_tokens=True)
    return made


def transformers_fast(folder: Path) -> Path:
    model().save_pretrained(folder)
    tokenizer(folder, GPT2TokenizerFast).save_pretrained(folder)
    return folder


def transformers_slow(folder: Path) -> Path:
    model().save_pretrained(folder, safe_serialization=False, max_shard_size="4KB")
    tokenizer(folder, GPT2Tokenizer).save_pretrained(folder)
    return folder


def cerebras(folder: Path) -> Path:
    """As Cerebras-GPT's folder on the Hub has it."""
    more: dict[str, Any] = {
        "activation_function": "gelu",
        "n_inner": 32,
        "scale_attn_by_inverse_layer_idx": False,
    }
    made = model(**more)
    made.config.architectures = ["GPT2Model"]
    made.save_pretrained(folder)
    (folder / "README.md").write_text("A model.")
    (folder / ".gitattributes").write_text("*.bin filter=lfs\n")
    return folder


def ranker(folder: Path) -> Path:
    """As DialogRPT."""
    model(GPT2ForSequenceClassification, num_labels=1, pad_token_id=263).save_pretrained(folder)
    return folder


def safetensors_library(folder: Path) -> Path:
    made = model()
    folder.mkdir()
    made.config.save_pretrained(folder)
    save_model(made, str(folder / "model.safetensors"))
    return folder


def peft(folder: Path) -> Path:
    base = transformers_fast(folder.with_name("base"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
        get_peft_model(GPT2LMHeadModel.from_pretrained(base), config).save_pretrained(folder)
    return folder


def nanogpt(folder: Path) -> Path:
    folder.mkdir()
    document = {"model": state(ARGS), "model_args": ARGS, "iter_num": 5, "optimizer": {}}
    torch.save(document | {"best_val_loss": 1.0, "config": {}}, folder / "ckpt.pt")
    return folder


def trainer(folder: Path) -> Path:
    """As a checkpoint of transformers' Trainer lies there."""
    transformers_fast(folder)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.save({}, folder / name)
    (folder / "trainer_state.json").write_text("{}")
    return folder


def gpt2dsl_checkpoint(folder: Path) -> Path:
    return whole(folder)


def mindformers(folder: Path) -> Path:
    source = transformers_fast(folder.with_name("source"))
    Recipe(Task.convert(source=str(source), target=str(folder), to="mindformers")).plan().run()
    return folder


def gpt2dsl_ranks(folder: Path) -> Path:
    from gpt2dsl import Parallel  # noqa: PLC0415  # it is used by this maker alone

    source = transformers_fast(folder.with_name("source"))
    layout = Parallel(mp=2)
    Recipe(Task.reshard(source=str(source), target=str(folder), layout=layout)).plan().run()
    return folder


MAKERS = (
    transformers_fast, transformers_slow, cerebras, ranker, safetensors_library, peft, nanogpt,
    trainer, gpt2dsl_checkpoint, mindformers, gpt2dsl_ranks,
)  # fmt: skip


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_every_file_and_key_has_a_fate_and_none_is_unknown(make: Maker, tmp_path: Path) -> None:
    folder = make(tmp_path / "made")
    files = inspection.inspect(folder, Overrides())["beside"]
    assert set(files) == {path.name for path in folder.iterdir()}
    unknown = [name for name, file in files.items() if file["fate"] == "unknown"]
    for name, file in files.items():
        unknown += [
            f"{name}: {key}" for key, row in file["keys"].items() if row["fate"] == "unknown"
        ]
        if name in beside.TABLES and name != "tokenizer.json":
            assert set(file["keys"]) == set(json.loads((folder / name).read_text("utf-8")))
    assert unknown == []


def test_inspect_prints_a_line_for_each_key_with_its_value_and_fate(tmp_path: Path) -> None:
    folder = transformers_fast(tmp_path / "made")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"a_key_of_nobody": 7}))
    text = CliRunner().invoke(cli, ["inspect", str(folder)]).stdout
    assert "\nconfig.json   used: the network\n" in text
    assert "a_key_of_nobody" in text
    for key in config:
        assert f"\n  {key} " in text
    assert "'<pad>'" in text


def test_what_nobody_knows_is_a_note_of_the_plan_with_its_value(tmp_path: Path) -> None:
    folder = transformers_fast(tmp_path / "made")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"a_key_of_nobody": 7}))
    (folder / "surprise.xyz").write_text("?")
    target = str(tmp_path / "target")
    notes = Recipe(Task.convert(source=str(folder), target=target)).plan().notes
    assert [note for note in notes if "a_key_of_nobody = 7" in note]
    assert [note for note in notes if note.startswith("surprise.xyz")]


def test_a_refused_key_is_shown_with_its_cure_and_ends_with_two(tmp_path: Path) -> None:
    folder = transformers_fast(tmp_path / "made")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"add_cross_attention": True}))
    result = CliRunner().invoke(cli, ["inspect", str(folder), "--json"])
    assert result.exit_code == 2
    row = json.loads(result.stdout)["beside"]["config.json"]["keys"]["add_cross_attention"]
    assert row["fate"] == "refused"
    assert "add_cross_attention" in json.loads(result.stdout)["faults"][0]


@pytest.mark.parametrize(
    ("settings", "generation", "fate"),
    [
        ({"num_beam_groups": 2}, None, "refused"),
        ({"suppress_tokens": [3, 9999]}, None, "refused"),
        ({"temperature": "hot"}, None, "refused"),
        ({"num_beams": 2}, None, "used"),
        ({"num_beam_groups": 2}, {"eos_token_id": 5}, "no effect"),
        ({"num_beams": 2}, {"eos_token_id": 5}, "no effect"),
        ({"num_beam_groups": 2}, {"_from_model_config": True}, "refused"),
    ],
)
def test_inspect_has_the_fate_of_a_setting_of_generation_that_generating_gives_it(
    tmp_path: Path, settings: dict[str, Any], generation: dict[str, Any] | None, fate: str
) -> None:
    model().save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(described | settings))
    (tmp_path / "generation_config.json").unlink()
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    found = inspection.inspect(tmp_path, Overrides())
    (key,) = settings
    assert found["beside"]["config.json"]["keys"][key]["fate"] == fate
    assert any(key in fault for fault in found["faults"]) == (fate == "refused")
    defaults = reading.read_info(tmp_path).defaults
    assert {entry.key for entry in defaults.refused} == ({key} if fate == "refused" else set())


def test_inspect_refuses_ids_beyond_the_vocabulary_as_generating_does(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"suppress_tokens": [3, 9999]}')
    found = inspection.inspect(tmp_path, Overrides())
    row = found["beside"]["generation_config.json"]["keys"]["suppress_tokens"]
    assert row["fate"] == "refused"
    assert any("suppress_tokens" in fault for fault in found["faults"])


def test_a_file_that_is_only_copied_decides_what_comes_of_the_weights(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    (tmp_path / "additional_chat_templates").mkdir()
    copied = ("additional_chat_templates/tool.jinja", "chat_template.jinja", "vocab.txt")
    for name in (*copied, "README.md"):
        (tmp_path / name).write_text("x")
    roles = dict(beside.deciding(location.find(tmp_path)))
    assert {*copied} == {*roles} - {"tensors 0", "config.json", "generation_config.json"}
