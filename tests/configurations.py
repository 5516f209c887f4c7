"""Hypothesis strategies: any configuration that transformers' GPT2Config accepts."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gpt2dsl.schema.activations import ACTIVATIONS

FLAG = st.booleans() | st.sampled_from([0, 1, None])
"""What files have for a flag, whatever its type should be."""

PROBABILITY = st.sampled_from([0.0, 0, 0.1, 0.25, 0.9])

NETWORK: dict[str, st.SearchStrategy[Any]] = {
    "n_layer": st.integers(1, 3),
    "n_positions": st.integers(24, 64),
    "n_inner": st.none() | st.integers(1, 70),
    "activation_function": st.sampled_from(sorted(ACTIVATIONS)),
    "layer_norm_epsilon": st.sampled_from([0.0, 1e-12, 1e-5, 1e-3, 1.0]),
    "scale_attn_weights": FLAG,
    "scale_attn_by_inverse_layer_idx": FLAG,
    "reorder_and_upcast_attn": FLAG,
    "tie_word_embeddings": st.booleans(),
    "resid_pdrop": PROBABILITY,
    "embd_pdrop": PROBABILITY,
    "attn_pdrop": PROBABILITY,
}
"""Key → values that decide what is computed."""

WITHOUT_EFFECT: dict[str, st.SearchStrategy[Any]] = {
    "initializer_range": st.floats(0.001, 1),
    "use_cache": st.booleans(),
    "is_decoder": st.booleans(),
    "chunk_size_feed_forward": st.integers(0, 4),
    "tie_encoder_decoder": st.booleans(),
    "torchscript": st.booleans(),
    "output_hidden_states": st.booleans(),
    "return_dict": st.just(True),
    "summary_type": st.sampled_from(["last", "first", "mean", "cls_index"]),
    "summary_use_proj": st.booleans(),
    "summary_activation": st.sampled_from([None, "tanh"]),
    "summary_proj_to_labels": st.booleans(),
    "summary_first_dropout": PROBABILITY,
    "finetuning_task": st.sampled_from([None, "sst2"]),
    "task_specific_params": st.sampled_from([None, {"text-generation": {"top_k": 3}}]),
    "gradient_checkpointing": st.just(False),
    "n_ctx": st.integers(1, 64),
    "nobody_knows": st.integers(),
}
"""Key → values that change no logits."""

REFUSED: dict[str, st.SearchStrategy[Any]] = {
    "add_cross_attention": st.just(True),
    "is_encoder_decoder": st.just(True),
    "pruned_heads": st.just({0: [0]}),
    "activation_function": st.sampled_from(["prelu", "xielu"]),
}
"""Key → values that transformers accepts and that are not built here."""


@st.composite
def configurations(
    draw: st.DrawFn, *, vocab: int | None = None, refused: bool = False, classifies: bool = False
) -> dict[str, Any]:
    """Draw keyword arguments of GPT2Config.

    Args:
        draw: of hypothesis.
        vocab: rows of the word table; drawn where it is not said.
        refused: whether keys may ask for what is refused here.
        classifies: whether they are of a classifier: with labels and a type of problem.
    """
    heads = draw(st.integers(1, 4))
    config: dict[str, Any] = {
        "vocab_size": vocab or draw(st.integers(40, 300)),
        "n_head": heads,
        "n_embd": heads * draw(st.integers(1, 10)),
    }
    tables = [NETWORK, WITHOUT_EFFECT, *([REFUSED] if refused else [])]
    for table in tables:
        # of what is refused one key a configuration: most are to be compared
        most = 1 if table is REFUSED else len(table)
        for key in draw(st.lists(st.sampled_from(sorted(table)), unique=True, max_size=most)):
            config[key] = draw(table[key])
    size = config["vocab_size"]
    for key in draw(st.sets(st.sampled_from(["bos_token_id", "eos_token_id"]))):
        config[key] = draw(st.integers(0, size - 1))
    if classifies:
        config |= draw(_labels(size))
    return config


@st.composite
def _labels(draw: st.DrawFn, size: int) -> dict[str, Any]:
    """Draw what a classifier says of its outputs."""
    count = draw(st.integers(1, 4))
    problems = [None, "regression", "multi_label_classification"]
    if count > 1:
        problems.append("single_label_classification")
    found: dict[str, Any] = {
        "num_labels": count,
        "problem_type": draw(st.sampled_from(problems)),
        "pad_token_id": draw(st.none() | st.integers(0, size - 1)),
    }
    if draw(st.booleans()):
        found["id2label"] = {i: f"class {i}" for i in range(count)}
        found["label2id"] = {f"class {i}": i for i in range(count)}
    return found
