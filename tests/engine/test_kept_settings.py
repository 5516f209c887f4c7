"""Settings of generation that weights came with, after a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from transformers import GenerationConfig

import gpt2dsl
from gpt2dsl import Generation, LoRA, Model, Recipe, Runtime, Task, Train
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.weights.formats import huggingface
from tests.engine.conftest import text
from tests.judges import TINY, random_weights

SETTINGS = {"eos_token_id": [6, 9], "do_sample": True, "top_k": 3, "max_new_tokens": 7}
NET = attrs.evolve(TINY, layers=1)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    huggingface.write(folder, NET, random_weights(NET), Tokenizer.train([text(400)], NET.vocab))
    (folder / "generation_config.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "text.txt").write_text(text(30))
    return folder


def trained(base: Path, *parts: Any) -> Path:
    recipe = Recipe(
        Model(weights=str(base)),
        Train(batch_size=2, seq_length=16, steps=1),
        Runtime(output=str(base.parent / "runs")),
        Task.finetune(data=str(base.parent / "text.txt")),
        *parts,
    )
    checkpoint = recipe.plan().run().checkpoint
    assert checkpoint
    return checkpoint


def test_a_checkpoint_generates_as_its_base_unless_the_recipe_says_otherwise(base: Path) -> None:
    expected = GenerationConfig.from_pretrained(base)
    checkpoint = trained(base)
    assert GenerationConfig.from_pretrained(checkpoint) == expected
    assert gpt2dsl.load(str(checkpoint)).defaults.completed(Generation()).eos == (6, 9)
    other = GenerationConfig.from_pretrained(trained(base, Generation(top_k=5, max_length=9)))
    assert (other.top_k, other.max_length, other.max_new_tokens) == (5, 9, None)
    assert other.eos_token_id == [6, 9]


def test_an_adapter_generates_as_its_base_before_and_after_it_is_merged(base: Path) -> None:
    adapter, whole = trained(base, LoRA(r=2)), base.parent / "whole"
    Recipe(Task.convert(source=str(adapter), target=str(whole), merge=True)).plan().run()
    assert GenerationConfig.from_pretrained(whole) == GenerationConfig.from_pretrained(base)
    found = gpt2dsl.load(str(adapter)).defaults.completed(Generation())
    assert (found.top_k, found.why("top_k")) == (3, "generation_config.json:1")
