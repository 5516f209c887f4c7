from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig, GPT2Config

from gpt2dsl import Generation, SpecError
from gpt2dsl.schema import generation_config
from gpt2dsl.schema.fate import fates, refuse
from gpt2dsl.schema.generation_config import GLOBAL, TABLE, stated


def test_every_key_of_transformers_has_a_fate() -> None:
    known = {key for key in vars(GenerationConfig()) if key != "_original_object_hash"}
    assert known <= TABLE.keys()
    words = [one.words for one in fates(Path("g.json"), GenerationConfig().to_dict(), TABLE)]
    assert all(words)


def test_transformers_own_defaults_are_accepted() -> None:
    refuse(fates(Path("g.json"), vars(GenerationConfig()), TABLE))
    refuse(fates(Path("g.json"), dict.fromkeys(TABLE), TABLE))


def test_what_counts_as_unsaid_in_config_json_is_what_transformers_takes_for_it() -> None:
    assert GPT2Config()._get_global_generation_defaults() == GLOBAL


def test_keys_that_are_used_name_keys_that_there_are() -> None:
    for row in TABLE.values():
        if row.fate == "used" and row.words.startswith("generation."):
            assert row.words.removeprefix("generation.").partition(",")[0] in Generation.rules()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"max_length": 12}, {"max_length": 12}),
        ({"max_length": 20}, {"max_new_tokens": 20}),
        ({"max_length": 12, "max_new_tokens": 3}, {"max_new_tokens": 3}),
        ({"min_length": 9, "min_new_tokens": 0}, {"min_new_tokens": 0}),
        ({"do_sample": True}, {"do_sample": True, "top_k": 50}),
        ({"do_sample": 1, "top_k": None}, {"do_sample": True, "top_k": 0}),
        ({"top_p": 1.5, "typical_p": 2}, {"top_p": 1.0, "typical_p": 1.0}),
        ({"epsilon_cutoff": 3, "eta_cutoff": -1}, {"epsilon_cutoff": 0.0, "eta_cutoff": 0.0}),
        ({"eos_token_id": 5}, {"eos": [5]}),
        ({"forced_eos_token_id": [5, 6]}, {"forced_eos_token_id": [5, 6]}),
        ({"stop_strings": "a"}, {"stop_strings": ["a"]}),
        ({"renormalize_logits": 1}, {"renormalize_logits": False}),
        ({"temperature": None, "pad_token_id": 3, "nobody": 1}, {}),
    ],
    ids=str,
)
def test_values_mean_what_they_mean_in_transformers(
    content: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert {key: value for key, (value, _) in stated(content).items()} == expected


@pytest.mark.parametrize(
    "content",
    [
        {"max_length": 0}, {"max_length": "12"}, {"max_time": 3.0}, {"guidance_scale": 1.5},
        {"watermarking_config": {}}, {"penalty_alpha": 0.6}, {"num_beam_groups": 2},
        {"constraints": []}, {"force_words_ids": [[1]]}, {"dola_layers": "low"},
        {"token_healing": True}, {"assistant_early_exit": 2}, {"sequence_bias": {"(1,)": 2.0}},
        {"bad_words_ids": [[]]}, {"suppress_tokens": [-1]}, {"repetition_penalty": 0.0},
        {"temperature": "hot"}, {"exponential_decay_length_penalty": [1]}, {"do_sample": "yes"},
        {"cache_implementation": "quantized"}, {"eos_token_id": "<eos>"}, {"num_beams": 0},
        {"temperature": 10**400}, {"top_p": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_built_and_what_can_not_be_is_refused_by_its_key(
    content: dict[str, Any],
) -> None:
    (key,) = content
    with pytest.raises(SpecError, match=rf"g\.json: {key} is ") as caught:
        refuse(fates(Path("g.json"), content, TABLE))
    assert [fault.code for fault in caught.value.faults] == ["G2-313"]
    assert not stated(content)


def test_a_recipe_goes_before_the_file_in_what_is_written() -> None:
    content = {"max_length": 9, "top_k": 3, "eos_token_id": 5, "_from_model_config": True}
    said = {"max_new_tokens": 4, "eos": (7,), "beams": 2, "seed": 3}
    assert generation_config.written(content, said) == {
        "max_new_tokens": 4, "top_k": 3, "eos_token_id": 7, "num_beams": 2,
    }  # fmt: skip
    assert generation_config.written(content, {}) == content
