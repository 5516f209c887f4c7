"""Any configuration of transformers is read as transformers reads it, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config

from gpt2dsl.errors import InputError
from gpt2dsl.schema.activations import ACTIVATIONS
from gpt2dsl.weights.formats.config import from_config, to_config
from tests.configurations import REFUSED, configurations

PATH = Path("config.json")


def file_of(config: dict[str, Any], architecture: str = "GPT2LMHeadModel") -> dict[str, Any]:
    """What transformers writes."""
    made = GPT2Config(**config, architectures=[architecture])
    content: dict[str, Any] = json.loads(made.to_json_string(use_diff=False))
    return content


@given(configurations())
def test_a_configuration_is_read_as_transformers_reads_it(config: dict[str, Any]) -> None:
    theirs, ours = GPT2Config(**config), from_config(file_of(config), PATH)
    assert (ours.layers, ours.heads, ours.hidden) == (theirs.n_layer, theirs.n_head, theirs.n_embd)
    assert ours.inner_width == (theirs.n_inner or 4 * theirs.n_embd)
    assert ours.activation == ACTIVATIONS[theirs.activation_function]
    assert ours.epsilon == theirs.layer_norm_epsilon
    flags = (theirs.scale_attn_weights, theirs.scale_attn_by_inverse_layer_idx)
    assert (ours.scale_attention, ours.scale_by_layer) == tuple(map(bool, flags))
    assert ours.tied == bool(theirs.tie_word_embeddings)
    drops = ours.dropouts
    assert (drops.embedding, drops.attention) == (theirs.embd_pdrop, theirs.attn_pdrop)
    assert drops.residual == theirs.resid_pdrop


@given(configurations(classifies=True), st.data())
def test_what_is_written_back_is_what_was_read(config: dict[str, Any], data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["GPT2LMHeadModel", "GPT2ForSequenceClassification"]))
    content = file_of(config, kind)
    geometry = from_config(content, PATH)
    written = to_config(geometry, source=content)
    assert written | content == written
    assert from_config(written, PATH) == geometry
    found, expected = (GPT2Config(**one).to_dict() for one in (written, content))
    assert found | {"dtype": None} == expected | {"dtype": None}


@given(configurations(refused=True))
def test_what_is_not_built_is_refused_by_name(config: dict[str, Any]) -> None:
    asked = [key for key in REFUSED if config.get(key) and str(config[key]) not in ACTIVATIONS]
    if not asked:
        from_config(file_of(config), PATH)
        return
    with pytest.raises(InputError, match=f"{asked[0]} is"):
        from_config(file_of(config), PATH)
