"""Keys of config.json and their fates: those of transformers 4.57's GPT2Config, and others.

Source: transformers' configuration_gpt2.py, configuration_utils.py and modeling_gpt2.py.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from gpt2dsl.schema import activations, generation_config
from gpt2dsl.schema.fate import KeySpec, Table, any_value, expecting, no_effect, only, unset, used

LARGEST, MOST_LAYERS = 2**24, 2**12
"""Limits of a network's numbers; checking the tensors of larger networks would take long."""

CLASSIFIER = "GPT2ForSequenceClassification"

PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")

ALIASES = {
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_embd": "hidden_size",
    "n_positions": "max_position_embeddings",
}
"""Key → alias in transformers, which wins if a file has both."""

OTHER_HEADS = (
    "GPT2DoubleHeadsModel",
    "GPT2ForTokenClassification",
    "GPT2ForQuestionAnswering",
)

Refusal = Callable[[Any], str]


def integer_check(most: int = LARGEST, *, optional: bool = False) -> Refusal:
    """Return a check that refuses all but whole numbers from 1 to ``most``."""

    def refusal(value: Any) -> str:
        if (optional and value is None) or (type(value) is int and 1 <= value <= most):
            return ""
        return f"a whole number from 1 to {most:,} is expected"

    return refusal


def number_check(below: float) -> Refusal:
    """Return a check that refuses all but numbers from 0 to below a limit."""

    def refusal(value: Any) -> str:
        # Larger whole numbers do not fit a float.
        if type(value) in {int, float} and 0 <= value < min(below, sys.float_info.max):
            return ""
        return f"it is out of range: a number from 0 to below {below:g} is expected"

    return refusal


def _architectures(value: Any) -> str:
    if value is not None and not (
        isinstance(value, list) and all(isinstance(name, str) for name in value)
    ):
        return "a list of names is expected"
    if others := [name for name in value or () if name in OTHER_HEADS]:
        return (
            f"the head of {others[0]} is not built here; GPT2LMHeadModel.from_pretrained and "
            "save_pretrained of transformers make a folder of the network without it"
        )
    return ""


def _labels(value: Any) -> str:
    """Refuse names of classes unless they are numbered from 0."""
    if value is None:
        return ""
    if not isinstance(value, dict) or {str(key) for key in value} != set(
        map(str, range(len(value)))
    ):
        return "names of the classes 0, 1, ... are expected"
    if any(isinstance(name, list | dict) for name in value.values()):
        return "a name for each class is expected"
    return ""


def _own_code(value: Any) -> str:
    if not isinstance(value, dict | None):
        return "a class of its code for each of transformers' is expected"
    models = [key for key in value or () if key.startswith("AutoModel")]
    if not models:
        return ""
    return (
        f"its model is code of its own ({models[0]}), which is not run here; where it is a plain "
        "GPT-2 all the same, remove the key"
    )


_COPY = "kept and written back; nothing in the network depends on it"
_OUTPUT = "which outputs transformers returns; the values are the same"
_SUMMARY = "only for GPT2DoubleHeadsModel's second head"
_GENERATION = "a generation setting, read if there is no generation_config.json"
_INTERNAL = "how transformers computes or stores; the values are the same"

_PROBABILITY = number_check(1.0)
_PROBLEM_TYPE = only(None, *PROBLEMS, cure=f"one of {', '.join(PROBLEMS)} is expected")
_LABEL_IDS = expecting("a number for each name is expected", lambda value: isinstance(value, dict))

_OF_NETWORK: Table = {
    "model_type": used("the kind of network", only("gpt2", cure="gpt2 is expected")),
    "architectures": used("whether it has a classification head", _architectures),
    "vocab_size": used("rows of the token embedding", integer_check()),
    "n_positions": used("longest sequence", integer_check()),
    "n_embd": used("width", integer_check()),
    "n_layer": used("number of blocks", integer_check(MOST_LAYERS)),
    "n_head": used("attention heads", integer_check()),
    "max_position_embeddings": used("alias of n_positions", integer_check()),
    "hidden_size": used("alias of n_embd", integer_check()),
    "num_hidden_layers": used("alias of n_layer", integer_check(MOST_LAYERS)),
    "num_attention_heads": used("alias of n_head", integer_check()),
    "n_inner": used("width inside the MLP", integer_check(optional=True)),
    "activation_function": used("activation of the MLP", activations.refusal),
    "resid_pdrop": used("training dropout, after projections", _PROBABILITY),
    "embd_pdrop": used("training dropout, after the embeddings", _PROBABILITY),
    "attn_pdrop": used("training dropout, on attention weights", _PROBABILITY),
    "layer_norm_epsilon": used("epsilon of the layer norms", number_check(math.inf)),
    "scale_attn_weights": used("whether scores are divided by the square root of the head size"),
    "scale_attn_by_inverse_layer_idx": used("whether scores are divided by the layer's number"),
    "reorder_and_upcast_attn": used("whether scores are float32 where products are narrower"),
    "tie_word_embeddings": used("whether the head is tied to the token embedding"),
    "id2label": used("names of classes", _labels),
    "label2id": used("numbers of classes; must not contradict id2label", _LABEL_IDS),
    "num_labels": used("number of classes, if there is no id2label", integer_check(optional=True)),
    "problem_type": used("what a classifier's outputs are", _PROBLEM_TYPE),
    "bos_token_id": used("the token that an empty prompt begins with"),
    "eos_token_id": used("the token that ends a text"),
    "pad_token_id": used("the token after which a classifier reads no more"),
    "add_cross_attention": no_effect(
        "a decoder without an encoder",
        unset("no such network is built here: cross-attention needs an encoder"),
    ),
    "is_encoder_decoder": no_effect(
        "a decoder without an encoder", unset("GPT-2 has no encoder; no such network is built here")
    ),
    "pruned_heads": no_effect(
        "no head is cut off",
        unset(
            "heads that are cut off are not built here; model.config.pruned_heads = {} and "
            "save_pretrained keep the network whole, if its tensors are"
        ),
    ),
    "quantization_config": no_effect(
        "nothing is quantised", unset("quantised weights are not read; dequantise them first")
    ),
    "compression_config": no_effect(
        "nothing is compressed", unset("compressed weights are not read; decompress them first")
    ),
    "transformers_weights": no_effect(
        "no other file is named",
        unset("the weights lie in a file of another name; name that file, or remove the key"),
    ),
    "auto_map": no_effect("custom code, but not of the model", _own_code),
    "n_ctx": no_effect("replaced by n_positions"),
    "initializer_range": no_effect("only for new weights, which use 0.02 here"),
    "use_cache": no_effect("whether keys and values are kept; the tokens are the same"),
    "dtype": no_effect("the type of each tensor is in its file"),
    "torch_dtype": no_effect("the type of each tensor is in its file"),
    "is_decoder": no_effect("GPT-2 is one, whatever this says"),
    "cross_attention_hidden_size": no_effect("there is no cross-attention"),
    "tie_encoder_decoder": no_effect("there is no encoder"),
    "chunk_size_feed_forward": no_effect("GPT-2's MLP is not chunked"),
    "prefix": no_effect("only for transformers' pipelines; prompts are taken as they are"),
    "task_specific_params": no_effect("only for transformers' pipelines; kept and written back"),
    "attn_implementation": no_effect(
        "attention is computed as transformers' eager one does, scales of scores included"
    ),
    "gradient_checkpointing": no_effect("only saves memory; use parallel.recompute"),
    "tokenizer_class": used("the kind of tokenizer, if the tokenizer's files leave it open"),
    "classifier_dropout": no_effect("only for GPT2ForTokenClassification"),
    "hidden_dropout": no_effect("only for GPT2ForTokenClassification"),
    "decoder_start_token_id": no_effect("only for encoder-decoders"),
    "sep_token_id": no_effect(_COPY),
    "unk_token_id": no_effect(_COPY),
    **dict.fromkeys(
        ("summary_type", "summary_use_proj", "summary_activation", "summary_first_dropout",
         "summary_proj_to_labels"),
        no_effect(_SUMMARY),
    ),
    **dict.fromkeys(
        ("output_attentions", "output_hidden_states", "output_scores", "output_logits",
         "return_dict", "use_return_dict", "return_dict_in_generate", "output_past",
         "keys_to_ignore_at_inference"),
        no_effect(_OUTPUT),
    ),
    **dict.fromkeys(
        ("torchscript", "use_bfloat16", "tf_legacy_loss", "_attn_implementation",
         "_attn_implementation_autoset", "_attn_implementation_internal",
         "base_model_tp_plan", "base_model_pp_plan", "base_model_ep_plan",
         "transformers.js_config"),
        no_effect(_INTERNAL),
    ),
    **dict.fromkeys(
        ("finetuning_task", "transformers_version", "_name_or_path", "name_or_path",
         "_commit_hash", "_num_labels", "n_special", "predict_special_tokens", "afn",
         "line_by_line", "language", "license", "tags", "library_name", "custom_pipelines",
         "unsloth_version", "mindspore_version"),
        no_effect(_COPY),
    ),
}  # fmt: skip


def _of_generation(key: str) -> KeySpec:
    """Return the row of a generation setting; its values are only checked by generation."""
    row = generation_config.TABLE[key]
    is_idle = row.fate == "no effect" and row.refusal is any_value
    return no_effect(row.words) if is_idle else used(_GENERATION)


SETTINGS = frozenset(generation_config.IN_CONFIG) - set(_OF_NETWORK)
"""Generation keys in old files, ignored if there is a generation_config.json."""

TABLE: Table = {
    **_OF_NETWORK,
    **{key: _of_generation(key) for key in generation_config.IN_CONFIG if key in SETTINGS},
}
"""Key → row; effects of generation settings are in the table of generation_config.json."""
