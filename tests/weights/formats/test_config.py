from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config as HFConfig
from transformers.activations import ACT2FN

from gpt2dsl.errors import InputError
from gpt2dsl.layout import config as layout
from gpt2dsl.layout.config import MULTI_LABEL, PROBLEMS, GPT2Config
from gpt2dsl.schema import activations
from gpt2dsl.schema.activations import ACTIVATIONS
from gpt2dsl.schema.config import TABLE
from gpt2dsl.schema.fate import fates
from gpt2dsl.weights.formats.config import from_config, problem, to_config

PATH = Path("config.json")
SHARES = st.floats(0, 1, exclude_max=True)


@st.composite
def geometries(draw: st.DrawFn) -> GPT2Config:
    heads, labels = draw(st.integers(1, 8)), draw(st.integers(0, 5))
    problems = ("",) if labels == 0 else PROBLEMS[1:] if labels == 1 else PROBLEMS
    return GPT2Config(
        layers=draw(st.integers(1, 100)),
        heads=heads,
        hidden=heads * draw(st.integers(1, 64)),
        positions=draw(st.integers(1, 4096)),
        vocab=draw(st.integers(1, 10**6)),
        inner=draw(st.integers(0, 10**4)),
        activation=draw(st.sampled_from(layout.ACTIVATIONS)),
        dropout=draw(SHARES.filter(lambda share: share != 0.25)),
        embedding_dropout=draw(st.sampled_from([None, 0.25])),
        attention_dropout=draw(st.sampled_from([None, 0.25])),
        epsilon=draw(st.floats(0, 1)),
        scale_attention=draw(st.booleans()),
        scale_by_layer=draw(st.booleans()),
        upcast_attention=draw(st.booleans()),
        tied=draw(st.booleans()),
        labels=labels,
        problem=draw(st.sampled_from(problems)),
    )


@given(geometries())
def test_a_geometry_comes_back_from_its_config(geometry: GPT2Config) -> None:
    assert from_config(to_config(geometry), PATH) == geometry


@given(geometries())
def test_a_geometry_comes_back_from_transformers(geometry: GPT2Config) -> None:
    config = HFConfig(**to_config(geometry, 0))
    assert (config.eos_token_id, config.tie_word_embeddings) == (0, geometry.tied)
    assert from_config(config.to_dict(), PATH) == geometry


def test_the_defaults_are_those_of_transformers() -> None:
    assert from_config({"model_type": "gpt2"}, PATH) == from_config(HFConfig().to_dict(), PATH)


FORMS = {
    "gelu_new": lambda x: x / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "fast_gelu": lambda x: x * torch.exp(0.851 * (x - x.abs())) / (1 + torch.exp(-1.702 * x.abs())),
}
"""Ours and MindSpore's; the others have a name in transformers."""


@pytest.mark.parametrize(("theirs", "ours"), ACTIVATIONS.items())
def test_activations_of_the_two_names_are_equal(theirs: str, ours: str) -> None:
    x = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    own = FORMS[ours] if ours in FORMS else ACT2FN[ours]
    torch.testing.assert_close(ACT2FN[theirs](x), own(x), atol=1e-7, rtol=1e-7)


def test_every_activation_of_transformers_is_built_or_refused_by_name() -> None:
    assert {*ACTIVATIONS, *activations.HAVE_PARAMETERS} == set(ACT2FN)
    assert all(ACTIVATIONS[theirs] == ours for ours, theirs in activations.WRITTEN.items())


def test_names_that_other_models_use_are_read() -> None:
    config = {"model_type": "gpt2", "hidden_size": 64, "num_hidden_layers": 3, "n_head": 4}
    geometry = from_config(config, PATH)
    assert (geometry.hidden, geometry.layers) == (64, 3)


def test_of_two_names_that_differ_the_one_counts_that_transformers_takes() -> None:
    config = {"model_type": "gpt2", "hidden_size": 64, "n_embd": 32, "n_head": 4}
    assert from_config(config, PATH).hidden == HFConfig(**config).n_embd == 64


@pytest.mark.parametrize("value", [0, 1, False, True, None, "", "no", 0.0, 2, [], [0]])
@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("scale_attn_weights", "scale_attention"),
        ("scale_attn_by_inverse_layer_idx", "scale_by_layer"),
        ("reorder_and_upcast_attn", "upcast_attention"),
        ("tie_word_embeddings", "tied"),
    ],
)
def test_flags_are_what_counts_as_true_in_transformers(key: str, word: str, value: Any) -> None:
    geometry = from_config({"model_type": "gpt2", key: value}, PATH)
    assert getattr(geometry, word) is bool(value)


def test_every_key_of_transformers_is_in_the_table() -> None:
    config = HFConfig(num_labels=3, problem_type="regression")
    keys = {*config.to_dict(), *HFConfig.attribute_map, *vars(config)}
    internal = {"_output_attentions", "_attn_implementation_internal"}
    assert keys - internal - TABLE.keys() == set()
    assert {one.fate for one in fates(PATH, config.to_dict(), TABLE)} == {"used", "no effect"}


SOURCE = HFConfig(
    vocab_size=264, n_embd=32, n_head=2, resid_pdrop=0.0, attn_pdrop=0.3, bos_token_id=1,
    eos_token_id=2, pad_token_id=3, activation_function="gelu_fast", task_specific_params={"a": 1},
    num_labels=3, id2label={0: "x", 1: "y", 2: "z"}, label2id={"x": 0, "y": 1, "z": 2},
).to_dict() | {"architectures": ["GPT2ForSequenceClassification"], "nobody": "knows"}  # fmt: skip
SOURCE = json.loads(json.dumps(SOURCE))


def test_a_network_leaves_with_the_config_that_it_came_with() -> None:
    geometry = from_config(SOURCE, PATH)
    assert to_config(geometry, 5, source=SOURCE) | SOURCE == to_config(geometry, 5, source=SOURCE)


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"activation": "relu"}, {"activation_function": "relu"}),
        ({"dropout": 0.2}, {"resid_pdrop": 0.2}),
        ({"tied": False}, {"tie_word_embeddings": False}),
        ({"positions": 7}, {"n_positions": 7}),
        (
            {"labels": 1, "problem": "regression"},
            {
                "id2label": {"0": "LABEL_0"},
                "label2id": {"LABEL_0": 0},
                "problem_type": "regression",
            },
        ),
    ],
)
def test_only_what_has_changed_is_written_anew(
    changes: dict[str, Any], changed: dict[str, Any]
) -> None:
    geometry = attrs.evolve(from_config(SOURCE, PATH), **changes)
    written = to_config(geometry, source=SOURCE)
    assert {key: written[key] for key in SOURCE if written.get(key) != SOURCE[key]} == changed
    assert from_config(written, PATH) == geometry


def test_a_head_of_other_classes_has_none_of_the_old_ones_words() -> None:
    source = SOURCE | {"problem_type": "regression", "num_labels": 3}
    written = to_config(
        attrs.evolve(from_config(source, PATH), labels=2, problem=""), None, ["a", "b"], source
    )
    assert written["id2label"] == {"0": "a", "1": "b"}
    assert not {"problem_type", "num_labels"} & written.keys()


def test_the_other_name_of_a_number_is_the_one_that_is_written() -> None:
    source = {"model_type": "gpt2", "hidden_size": 64, "n_head": 4}
    geometry = attrs.evolve(from_config(source, PATH), hidden=32)
    written = to_config(geometry, source=source)
    assert (written["hidden_size"], "n_embd" in written) == (32, False)
    assert from_config(written, PATH) == geometry


def test_ids_that_a_config_does_not_say_stay_unsaid() -> None:
    source = {"model_type": "gpt2", "n_embd": 64, "n_head": 4}
    assert "eos_token_id" not in to_config(from_config(source, PATH), source=source)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "llama"}, "model_type is 'llama': gpt2 is expected"),
        ({"model_type": None}, "model_type is None: gpt2 is expected"),
        ({"activation_function": "elu"}, "activation_function is 'elu': one of gelu_new, "),
        ({"activation_function": "prelu"}, "activation_function is 'prelu': it has parameters"),
        ({"activation_function": None}, "activation_function is None: one of gelu_new, "),
        ({"activation_function": ["gelu"]}, "activation_function is "),
        ({"add_cross_attention": True}, "add_cross_attention is True: no such network"),
        ({"add_cross_attention": 1}, "add_cross_attention is 1: no such network"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is True: GPT-2 has no encoder"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is .*: heads that are cut off"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is .*: quantised weights"),
        ({"architectures": ["GPT2DoubleHeadsModel"]}, "architectures is .*: the head of GPT2Dou"),
        ({"architectures": "GPT2Model"}, "architectures is 'GPT2Model': a list of names"),
        ({"auto_map": {"AutoModelForCausalLM": "a.B"}}, "auto_map is .*: its model is code of its"),
        ({"transformers_weights": "b.safetensors"}, "transformers_weights is .*: the weights lie"),
        ({"problem_type": "ranking"}, "problem_type is 'ranking': one of single_label"),
        ({"id2label": {"1": "a", "2": "b"}}, "id2label is .*: names of the classes 0, 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0: a whole number from 1"),
        ({"n_inner": 0}, "n_inner is 0: a whole number from 1"),
        ({"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon is -1e-05: it is out of range"),
        ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon is '1e-5': it is out of range"),
        ({"embd_pdrop": "0.1"}, "embd_pdrop is '0.1': it is out of range"),
        ({"attn_pdrop": True}, "attn_pdrop is True: it is out of range"),
        ({"vocab_size": 264.0}, "vocab_size is 264.0: a whole number from 1"),
        ({"n_layer": "12"}, "n_layer is '12': a whole number from 1"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"n_head": True}, "n_head is True"),
        ({"n_head": 5}, "n_head is 5: it does not divide n_embd = 768"),
        ({"n_inner": -1}, "n_inner is -1"),
        ({"resid_pdrop": 1.0}, "resid_pdrop is 1.0: it is out of range"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
        ({"layer_norm_epsilon": 10**400}, "layer_norm_epsilon is 1000.*: it is out of range"),
        ({"id2label": {"0": ["a"], "1": "b"}}, "id2label is .*: a name for each class"),
        ({"auto_map": 5}, "auto_map is 5: a class of its code for each"),
    ],
)
def test_another_network_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        from_config(HFConfig().to_dict() | changes, PATH)
    assert caught.value.faults[0].code == "G2-313"


def test_the_kind_of_a_config_without_one_is_asked_for() -> None:
    with pytest.raises(InputError, match="model_type is absent: gpt2 is expected"):
        from_config({}, PATH)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_labels": 3}, "num_labels is 3: id2label has 2 classes"),
        ({"label2id": {"LABEL_0": 1}}, "label2id is 1 for 'LABEL_0': id2label has 'LABEL_0' at 0"),
    ],
)
def test_labels_that_contradict_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    config = json.loads(json.dumps(HFConfig().to_dict())) | changes
    assert from_config(config, PATH).labels == 0
    with pytest.raises(InputError, match=said):
        from_config(config | {"architectures": ["GPT2ForSequenceClassification"]}, PATH)


def test_several_keys_that_are_refused_are_told_at_once() -> None:
    config = {"model_type": "gpt2", "n_layer": 0, "pruned_heads": {"0": [1]}}
    with pytest.raises(InputError, match=r"n_layer is 0: .*; pruned_heads is"):
        from_config(config, PATH)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"num_labels": 1}, "regression"),
        ({"num_labels": 3}, ""),
        ({"num_labels": 3, "problem_type": "single_label_classification"}, ""),
        ({"num_labels": 3, "problem_type": "regression"}, "regression"),
        ({"num_labels": 1, "problem_type": "multi_label_classification"}, MULTI_LABEL),
    ],
)
def test_what_outputs_are_follows_from_type_and_number(said: dict[str, Any], meant: str) -> None:
    assert problem(said) == meant


def test_labels_are_those_of_a_classifier_only() -> None:
    config = HFConfig(num_labels=3).to_dict()
    assert from_config(config, PATH).labels == 0
    config["architectures"] = ["GPT2ForSequenceClassification"]
    assert from_config(config, PATH).labels == 3
    classifier = attrs.evolve(from_config(config, PATH), labels=2)
    assert from_config(HFConfig(**to_config(classifier)).to_dict(), PATH).labels == 2
