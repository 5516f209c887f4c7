from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config
from transformers.activations import ACT2FN

from gpt2dsl.errors import InputError
from gpt2dsl.layout import geometry as layout
from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.weights.formats.config import ACTIVATIONS, from_config, to_config

PATH = Path("config.json")


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    heads = draw(st.integers(1, 8))
    return Geometry(
        layers=draw(st.integers(1, 100)),
        heads=heads,
        hidden=heads * draw(st.integers(1, 64)),
        positions=draw(st.integers(1, 4096)),
        vocab=draw(st.integers(1, 10**6)),
        inner=draw(st.integers(0, 10**4)),
        activation=draw(st.sampled_from(layout.ACTIVATIONS)),
        dropout=draw(st.floats(0, 1, exclude_max=True)),
        epsilon=draw(st.floats(0, 1)),
        scale_attention=draw(st.booleans()),
        labels=draw(st.integers(0, 5)),
    )


@given(geometries())
def test_a_geometry_comes_back_from_its_config(geometry: Geometry) -> None:
    assert from_config(to_config(geometry), PATH) == geometry


@given(geometries())
def test_a_geometry_comes_back_from_transformers(geometry: Geometry) -> None:
    config = GPT2Config(**to_config(geometry, 0))
    assert (config.eos_token_id, config.tie_word_embeddings) == (0, True)
    assert from_config(config.to_dict(), PATH) == geometry


def test_the_defaults_are_those_of_transformers() -> None:
    assert from_config({"model_type": "gpt2"}, PATH) == from_config(GPT2Config().to_dict(), PATH)


FORMS = {
    "gelu_new": lambda x: x / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "gelu": lambda x: x / 2 * (1 + torch.erf(x / 2**0.5)),
    "fast_gelu": lambda x: x * torch.exp(0.851 * (x - x.abs())) / (1 + torch.exp(-1.702 * x.abs())),
    "relu": lambda x: x.clamp(min=0),
}


@pytest.mark.parametrize(("theirs", "ours"), ACTIVATIONS.items())
def test_activations_of_the_two_names_are_equal(theirs: str, ours: str) -> None:
    x = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    torch.testing.assert_close(ACT2FN[theirs](x), FORMS[ours](x), atol=1e-7, rtol=1e-7)


def test_names_that_other_models_use_are_read() -> None:
    config = {"model_type": "gpt2", "hidden_size": 64, "num_hidden_layers": 3, "n_head": 4}
    geometry = from_config(config, PATH)
    assert (geometry.hidden, geometry.layers) == (64, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "llama"}, "model_type is 'llama': gpt2 is expected"),
        ({"model_type": None}, "model_type is None: gpt2 is expected"),
        ({"activation_function": "silu"}, "activation_function is 'silu': one of gelu_new, "),
        ({"activation_function": ["gelu"]}, "activation_function is "),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({"add_cross_attention": True}, "add_cross_attention is True: no such network"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"n_layer": "12"}, "n_layer is '12': a whole number from 1"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"n_head": True}, "n_head is True"),
        ({"n_head": 5}, "n_head is 5: it does not divide n_embd = 768"),
        ({"n_inner": -1}, "n_inner is -1"),
        ({"resid_pdrop": 1.0}, "resid_pdrop is 1.0: it is out of range"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
    ],
)
def test_another_network_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        from_config(GPT2Config().to_dict() | changes, PATH)
    assert caught.value.faults[0].code == "G2-306"


def test_the_kind_of_a_config_without_one_is_asked_for() -> None:
    with pytest.raises(InputError, match="model_type is absent: gpt2 is expected"):
        from_config({}, PATH)


def test_labels_are_those_of_a_classifier_only() -> None:
    config = GPT2Config(num_labels=3).to_dict()
    assert from_config(config, PATH).labels == 0
    config["architectures"] = ["GPT2ForSequenceClassification"]
    assert from_config(config, PATH).labels == 3
    classifier = attrs.evolve(from_config(config, PATH), labels=2)
    assert from_config(GPT2Config(**to_config(classifier)).to_dict(), PATH).labels == 2
