from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.weights import training_state
from gpt2dsl.weights.formats import huggingface
from tests.commands import gpt2dsl
from tests.judges import TINY, random_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = Tokenizer.train(["the cat sat on the mat " * 9], 280)
    geometry = attrs.evolve(TINY, inner=0, vocab=len(tokenizer))
    folder = tmp_path_factory.mktemp("weights with a space") / "gewichte ü"
    folder.mkdir()
    huggingface.write(folder, geometry, random_weights(geometry), tokenizer)
    return folder


def test_inspect_says_what_weights_are(weights: Path) -> None:
    said = gpt2dsl("inspect", weights).stdout
    assert "format          Hugging Face, safetensors\n" in said
    assert "missing         none\n" in said
    assert "size            of no published model\n" in said
    assert " none, " not in said.partition("network")[2].partition("\n")[0]
    found = json.loads(gpt2dsl("inspect", weights, "--json").stdout)
    assert found["types"] == {"float32": found["tensors"]}
    assert found["tokenizer"] == str(weights)
    assert found["network"]["heads"] == TINY.heads
    assert found["network"]["inner"] == 4 * TINY.hidden
    assert found["network"]["attention_dropout"] == TINY.dropout


def test_inspect_counts_the_tensors_of_a_training_s_state(weights: Path, tmp_path: Path) -> None:
    for file in weights.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert "training state  0\n" in gpt2dsl("inspect", tmp_path).stdout
    for count, words in ((1, "1 tensor"), (2, "2 tensors")):
        training_state.write(
            tmp_path, {f"m.{i}": np.zeros(2, np.float32) for i in range(count)}, {}
        )
        assert f"training state  {words}\n" in gpt2dsl("inspect", tmp_path).stdout
    assert json.loads(gpt2dsl("inspect", tmp_path, "--json").stdout)["training_state"] == 2


def test_a_text_that_ends_with_the_positions_is_told(weights: Path) -> None:
    words = ("generate", weights, "--prompt", "the", "--max-new-tokens")
    said = gpt2dsl(*words, 500).stderr
    assert f"1 of 1 texts stopped at the model's {TINY.positions} positions" in said
    assert "positions" not in gpt2dsl(*words, 4).stderr


def test_inspect_shows_what_is_missing_and_ends_with_two(weights: Path, tmp_path: Path) -> None:
    config = json.loads((weights / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_layer": TINY.layers + 1}))
    (tmp_path / "model.safetensors").symlink_to(weights / "model.safetensors")
    found: dict[str, Any] = json.loads(gpt2dsl("inspect", tmp_path, "--json", code=2).stdout)
    assert len(found["missing"]) == 12
    assert f"transformer.h.{TINY.layers}.ln_1.weight" in found["missing"]


def test_convert_there_and_back_with_one_command_each(weights: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "a b.ckpt", tmp_path / "back"
    assert str(there) in gpt2dsl("convert", weights, there, "--to", "mindformers").stdout
    there.with_suffix(".yaml").unlink()
    failed = gpt2dsl("convert", there, back, code=2)
    assert "how many heads it has is not in the file" in failed.stderr
    assert failed.stderr.count("\n") == 1
    for words in (("generate", there, "--prompt", "a"), ("classify", there, "--text", "a")):
        assert "a YAML beside it, --size or --heads [G2-307]" in gpt2dsl(*words, code=2).stderr
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f"[model]\nweights = '{there}'\n[data]\ntokenizer = '{weights}'\n"
        '[task]\nkind = "generate"\nprompts = ["the"]\n'
    )
    refused = gpt2dsl("check", recipe, code=2).stdout
    assert "model.size or model.heads" in refused
    assert "--heads" not in refused
    gpt2dsl("check", recipe, "--set", f"model.heads={TINY.heads}")
    texts = [
        gpt2dsl(
            "generate", source, "--prompt", "the", "--max-new-tokens", 4, "--jsonl", *options
        ).stdout
        for source, options in (
            (weights, ()),
            (
                there,
                ("--heads", TINY.heads, "--activation", TINY.activation, "--tokenizer", weights),
            ),
        )
    ]
    assert texts[0] == texts[1]
    overrides = ("--heads", TINY.heads, "--activation", TINY.activation)
    result = json.loads(gpt2dsl("convert", there, back, *overrides, "--json").stdout)
    assert result["target"] == str(back)
    names = [folder / "model.safetensors" for folder in (weights, back)]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_a_size_that_the_weights_do_not_have_is_one_line(weights: Path, tmp_path: Path) -> None:
    failed = gpt2dsl("convert", weights, tmp_path / "a", "--size", "124m", code=2)
    assert "--size = 124m: layers 12 here and" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_inspect_tells_hints_that_the_weights_contradict(weights: Path) -> None:
    said = gpt2dsl("inspect", weights, "--heads", TINY.heads + 1, code=2).stdout
    assert f"heads is {TINY.heads}, not {TINY.heads + 1}" in said


def test_a_regex_that_is_none_is_told(weights: Path, tmp_path: Path) -> None:
    failed = gpt2dsl("convert", weights, tmp_path / "a", "--allow-missing", "(", code=2)
    assert "--allow-missing = (: expected a regex" in failed.stderr


def test_a_name_that_can_be_none_of_the_hub_is_told() -> None:
    assert "owner/name" in gpt2dsl("fetch", "./here", code=2).stderr


def test_reshard_there_and_back_and_what_inspect_says_of_it(weights: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "a b", tmp_path / "back"
    said = gpt2dsl("reshard", weights, there, "--to", "dp=2,pp=2").stdout
    digest = json.loads(gpt2dsl("inspect", there, "--json").stdout)["recorded_digest"]
    assert f"weights     xxh3 {digest}, in any layout\n" in said
    assert (
        "layout          ranks dp 2, mp 1, pp 2, zero False\n" in gpt2dsl("inspect", there).stdout
    )
    gpt2dsl("reshard", there, back, "--to", "dp=1")
    assert json.loads(gpt2dsl("inspect", back, "--json").stdout)["recorded_digest"] == digest
    assert (back / "model.safetensors").read_bytes() == (weights / "model.safetensors").read_bytes()
    assert (back / "tokenizer.json").read_bytes() == (weights / "tokenizer.json").read_bytes()


def test_plan_writes_strategy_files_without_mindspore(tmp_path: Path) -> None:
    said = gpt2dsl("plan", "gpt2-13b-pretrain", "--strategies", tmp_path / "s")
    assert f"{tmp_path / 's'}: strategy files of 32 ranks\n" in said.stderr
    assert len(list((tmp_path / "s").iterdir())) == 32
