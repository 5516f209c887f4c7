from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl import Recipe, SpecError, library
from gpt2dsl.chain import specs

SPECS = sorted(Path("specs").glob("*.toml"))


def test_every_spec_is_in_the_library_and_equal_to_its_python_twin() -> None:
    names = {entry.name for entry in library.entries() if entry.package == "gpt2dsl"}
    assert names >= {spec.stem for spec in SPECS}
    for spec in SPECS:
        assert specs.load(spec.stem) == specs.load(str(spec))


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(SpecError, match="did you mean gpt2-124m-pretrain"):
        Recipe.load("gpt2-124m-pretran")


def test_a_name_with_a_fraction_is_found_by_its_module() -> None:
    assert library._name("gpt2_1_5b_finetune_lora") == "gpt2-1.5b-finetune-lora"
