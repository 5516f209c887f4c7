from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig
from transformers import GPT2Config as HFConfig

from gpt2dsl import Generation, SpecError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.schema import generation_config
from gpt2dsl.weights.defaults import Defaults, Document, read
from tests.vocabularies import random_model

NET = GPT2Config(layers=1, heads=1, hidden=4, positions=16, vocab=300)
CONFIG = {"model_type": "gpt2", "n_layer": 1, "bos_token_id": 5, "eos_token_id": 6}


def of(
    folder: Path, generation: dict[str, Any] | None, config: dict[str, Any] | None = None
) -> Defaults:
    def document(name: str, content: dict[str, Any] | None) -> Document | None:
        if content is None:
            return None
        (folder / name).write_text(json.dumps(content, indent=2))
        return Document.of_json(folder / name, content)

    return Defaults.of(
        document("config.json", config), document("generation_config.json", generation), NET
    )


def test_what_the_file_says_comes_with_its_line(tmp_path: Path) -> None:
    defaults = of(tmp_path, {"eos_token_id": [6, 7], "max_length": 12, "num_beams": 2}, CONFIG)
    found = defaults.completed(Generation())
    assert (found.eos, found.max_length, found.beams) == ((6, 7), 12, 2)
    assert found.why("max_length") == "generation_config.json:6"
    assert found.why("beams") == "generation_config.json:7"
    assert found.why("top_p") == "default"
    layers = defaults.values["model.layers"]
    assert (layers.value, layers.origin) == (1, "config.json:3")
    assert defaults.values["model.heads"].origin == "config.json"


def test_the_line_of_a_number_with_two_names_is_that_of_the_one_that_counts(tmp_path: Path) -> None:
    found = of(tmp_path, None, {**CONFIG, "num_hidden_layers": 1})
    assert found.values["model.layers"].origin == "config.json:6"


def test_config_json_speaks_where_there_is_no_other_file_or_it_was_made_of_it(
    tmp_path: Path,
) -> None:
    says = {**CONFIG, "max_length": 9}
    for generation in (None, {"_from_model_config": True, "eos_token_id": 8}):
        found = of(tmp_path, generation, says).completed(Generation())
        assert (found.max_length, found.eos) == (9, (6,))
        assert found.why("max_length") == "config.json:6"
    found = of(tmp_path, {"eos_token_id": 8}, says).completed(Generation())
    assert (found.max_length, found.eos) == (None, (8,))
    untouched = of(tmp_path, {"_from_model_config": True, "eos_token_id": 8}, CONFIG)
    assert untouched.completed(Generation()).eos == (8,)


def test_settings_that_config_json_has_leave_with_the_weights(tmp_path: Path) -> None:
    config = {**CONFIG, "no_repeat_ngram_size": 2}
    of(tmp_path, {"_from_model_config": True, "eos_token_id": 6}, config)
    document = Document.of_json(tmp_path / "config.json", config)
    found = read(document, tmp_path / "generation_config.json", NET)
    assert found.file is None  # it says less than config.json
    assert found.generation == {"no_repeat_ngram_size": 2, "bos_token_id": 5, "eos_token_id": 6}
    trained = generation_config.written(found.generation, {"top_k": 3})
    for alone in (found.generation, trained):
        # As beside graphs that were exported, where no config.json lies.
        again = of(tmp_path, dict(alone)).completed(Generation())
        assert (again.no_repeat_ngram_size, again.eos) == (2, (6,))


@pytest.mark.parametrize(
    ("generation", "config", "eos", "ends"),
    [
        ({"eos_token_id": 7}, CONFIG, (7,), None),
        ({"eos_token_id": [7, 999]}, CONFIG, (7,), None),
        ({"eos_token_id": 999}, CONFIG, (), ()),
        ({"eos_token_id": -1}, CONFIG, (), ()),
        ({}, CONFIG, (), ()),
        (None, CONFIG, (6,), None),
        (None, {"model_type": "gpt2"}, (), ()),
        (None, {**CONFIG, "eos_token_id": None}, (), ()),
        (None, None, (), None),
    ],
)
def test_texts_end_where_transformers_ends_them(
    tmp_path: Path, generation: Any, config: Any, eos: tuple[int, ...], ends: Any
) -> None:
    """``ends`` () is none at all; None is the tokenizer's, where no file speaks of it."""
    defaults = of(tmp_path, generation, config)
    assert defaults.completed(Generation()).eos == eos
    assert defaults.ends == ends
    if ends == ():
        assert "eos_token_id" in defaults.notes[0]


@pytest.mark.parametrize(
    ("asked", "content", "expected"),
    [
        ({"max_new_tokens": 3}, {"max_length": 12}, {"max_new_tokens": 3, "max_length": None}),
        ({"max_length": 3}, {"max_new_tokens": 12}, {"max_new_tokens": None, "max_length": 3}),
        ({"min_length": 3}, {"min_new_tokens": 12}, {"min_new_tokens": 0, "min_length": 3}),
        ({"do_sample": False}, {"do_sample": True}, {"do_sample": False}),
        ({"beams": 1}, {"num_beams": 4}, {"beams": 1}),
        ({"suppress_tokens": []}, {"suppress_tokens": [3]}, {"suppress_tokens": ()}),
        ({"max_new_tokens": 2}, {"min_new_tokens": 9}, {"min_new_tokens": 2}),
        ({}, {"temperature": 0.0, "top_k": -1}, {"temperature": 1.0, "top_k": 0}),
        ({}, {"length_penalty": 1e9, "early_stopping": True}, {"length_penalty": 1.0}),
        ({"temperature": 0.5, "do_sample": True}, {"temperature": 0.0}, {"temperature": 0.5}),
    ],
    ids=str,
)
def test_what_is_asked_for_goes_before_the_file(
    tmp_path: Path, asked: dict[str, Any], content: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = of(tmp_path, content).completed(Generation(**asked))
    assert {key: getattr(found, key) for key in expected} == expected
    assert not found.contradictions()


@pytest.mark.parametrize(
    ("asked", "generation", "config"),
    [
        ({"do_sample": True}, {"eos_token_id": 6}, CONFIG),
        ({"do_sample": True}, None, CONFIG),
        ({"do_sample": True}, {"do_sample": False, "temperature": 0.7}, CONFIG),
        ({"do_sample": True}, {"top_k": 7}, CONFIG),
        ({"do_sample": True, "top_k": 0}, {"eos_token_id": 6}, CONFIG),
        ({"do_sample": True, "top_k": 9}, {"top_k": 7}, CONFIG),
        ({"do_sample": True}, None, {**CONFIG, "top_k": 7}),
    ],
    ids=str,
)
def test_draws_are_among_as_many_tokens_as_transformers_keeps(
    tmp_path: Path, asked: dict[str, Any], generation: Any, config: dict[str, Any]
) -> None:
    """The judge draws with the folder's settings; what it may draw has a finite score."""
    defaults = of(tmp_path, generation, config)
    model = random_model(NET.vocab, n_embd=4, n_head=1, n_positions=16)
    if generation is not None:
        model.generation_config = GenerationConfig.from_pretrained(tmp_path)
    else:
        model.generation_config = GenerationConfig.from_model_config(HFConfig(**config))
    prompt, settings = torch.tensor([[1, 2]]), {"max_new_tokens": 1, "pad_token_id": 0}
    scores = model.generate(
        prompt, **asked, **settings, return_dict_in_generate=True, output_scores=True
    ).scores[0]
    found = defaults.completed(Generation(**asked))
    assert (found.top_k or NET.vocab) == int(torch.isfinite(scores).sum())


def test_draws_of_weights_without_settings_are_among_all_tokens(tmp_path: Path) -> None:
    assert of(tmp_path, None).completed(Generation(do_sample=True)).top_k == 0
    # and where nothing is drawn, nothing is said of it
    greedy = of(tmp_path, {"eos_token_id": 6}, CONFIG).completed(Generation())
    assert (greedy.top_k, greedy.why("top_k")) == (0, "default")


def test_a_value_that_can_not_be_is_one_fault_at_its_line(tmp_path: Path) -> None:
    defaults = of(tmp_path, {"eos_token_id": 6, "temperature": 0.0})
    with pytest.raises(SpecError) as caught:
        defaults.completed(Generation(do_sample=True))
    (fault,) = caught.value.faults
    assert (fault.origin, fault.key) == ("generation_config.json:3", "generation.temperature")


@pytest.mark.parametrize(
    "content",
    [
        {"suppress_tokens": [3, 300]}, {"bad_words_ids": [[3], [4, 999]]},
        {"sequence_bias": [[[300], 1.0]]}, {"forced_eos_token_id": 300},
        {"forced_bos_token_id": 300}, {"begin_suppress_tokens": [300]},
    ],
    ids=str,
)  # fmt: skip
def test_ids_beyond_the_vocabulary_are_refused_unless_others_are_said(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    (key,) = content
    defaults = of(tmp_path, content)
    with pytest.raises(SpecError, match=f"generation_config.json: {key} is .*: there are 300 ids"):
        defaults.refuse(Generation())
    said: dict[str, Any] = {
        "suppress_tokens": [2],
        "bad_words_ids": [[2]],
        "sequence_bias": [[[2], 1.0]],
    }
    other = {"forced_eos_token_id": 2, "forced_bos_token_id": 2, "begin_suppress_tokens": [2]}
    defaults.refuse(Generation(**{key: {**said, **other}[key]}))


def test_a_contradiction_says_where_the_other_value_stands(tmp_path: Path) -> None:
    found = of(tmp_path, {"num_beams": 2}).completed(Generation(stream=True))
    ((key, why),) = found.contradictions()
    assert key == "stream"
    assert why.endswith("beams = 2 is said at generation_config.json:2")
