"""Any folder of weights that transformers and PEFT save: what the fuzz reads."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)
from transformers.activations import ACT2FN

from tests.adapters import lora_configs
from tests.folders import tokenizer_makers
from tests.strategies import generation_configs

IDS = st.integers(0, 250)
CONFIG_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "activation_function": st.sampled_from(sorted(ACT2FN)),
    "resid_pdrop": st.floats(0, 0.9),
    "embd_pdrop": st.sampled_from([0, 0.1, 0.5]),
    "attn_pdrop": st.sampled_from([0.0, 0.2]),
    "layer_norm_epsilon": st.sampled_from([1e-5, 1e-3, 1e-8, 0.1, 1]),
    "scale_attn_weights": st.sampled_from([True, False, 0, 1]),
    "scale_attn_by_inverse_layer_idx": st.sampled_from([True, False, 0, 1]),
    "reorder_and_upcast_attn": st.booleans(),
    "n_inner": st.sampled_from([None, 16, 48, 64]),
    "tie_word_embeddings": st.booleans(),
    "use_cache": st.booleans(),
    "bos_token_id": st.none() | IDS,
    "eos_token_id": st.none() | IDS,
    "pad_token_id": st.none() | IDS,
    "sep_token_id": st.none() | IDS,
    "initializer_range": st.sampled_from([0.02, 0.1]),
    "summary_type": st.sampled_from(["cls_index", "last", "mean"]),
    "summary_first_dropout": st.floats(0, 0.5),
    "is_decoder": st.booleans(),
    "torchscript": st.just(False),
    "return_dict": st.booleans(),
    "output_hidden_states": st.booleans(),
    "chunk_size_feed_forward": st.sampled_from([0, 4]),
    "finetuning_task": st.just("a task"),
    "task_specific_params": st.just({"text-generation": {"do_sample": True, "max_length": 50}}),
    "prefix": st.sampled_from([None, "the"]),
    "problem_type": st.sampled_from(
        [None, "regression", "single_label_classification", "multi_label_classification"]
    ),
    "num_labels": st.integers(1, 4),
    "id2label": st.sampled_from([{0: "rainy", 1: "sunny"}, {0: "a", 1: "b", 2: "c"}]),
    "n_ctx": st.just(64),
    "max_length": st.integers(4, 12),
    "no_repeat_ngram_size": st.integers(0, 2),
    "repetition_penalty": st.floats(0.8, 1.5),
    "a_key_of_nobody": st.lists(st.integers(), max_size=2),
    "_name_or_path": st.just("elsewhere"),
}


@attrs.frozen
class Drawn:
    """What a folder is made of."""

    layers: int
    width: int
    positions: int
    beyond: int
    classifies: bool
    config: dict[str, Any]
    generation: dict[str, Any] | None
    lora: dict[str, Any] | None
    tokenizer: Callable[[Path], Path]
    safe: bool
    seed: int

    def __repr__(self) -> str:
        shown = attrs.asdict(self) | {"tokenizer": self.tokenizer.__qualname__}
        return json.dumps(shown, default=str)


def _some(keys: dict[str, st.SearchStrategy[Any]], most: int) -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(st.sampled_from(sorted(keys)), max_size=most, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({key: keys[key] for key in chosen}))


@st.composite
def drawn_folders(draw: st.DrawFn) -> Drawn:
    """Draw a folder; not every combination of keys is one that transformers takes."""
    classifies = draw(st.sampled_from([False, False, False, True]))
    has_adapter = draw(st.sampled_from([False, False, False, True])) and not classifies
    return Drawn(
        layers=draw(st.integers(1, 2)),
        width=draw(st.sampled_from([16, 24])),
        positions=draw(st.sampled_from([24, 40])),
        beyond=draw(st.sampled_from([0, 0, 1, 37])),
        classifies=classifies,
        config=draw(_some(CONFIG_KEYS, 5)),
        generation=None if classifies else draw(st.none() | generation_configs(256)),
        lora=draw(lora_configs()) if has_adapter else None,
        tokenizer=draw(tokenizer_makers()),
        safe=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )


def made(drawn: Drawn, folder: Path) -> Path:
    """Save a folder as transformers does, and an adapter on it as PEFT does; return what to load.

    Raises:
        Exception: the libraries take no such keys.
    """
    base = folder / "base"
    drawn.tokenizer(base)
    rows = max(_ids(base)) + 1 + drawn.beyond
    sizes = {"n_layer": drawn.layers, "n_embd": drawn.width, "n_positions": drawn.positions}
    config = GPT2Config(vocab_size=rows, n_head=2, **sizes, **drawn.config)
    config._attn_implementation = "eager"
    torch.manual_seed(drawn.seed)
    cls = GPT2ForSequenceClassification if drawn.classifies else GPT2LMHeadModel
    model = _random(cls(config))
    if drawn.generation is not None:
        model.generation_config = GenerationConfig(**drawn.generation)
    model.save_pretrained(base, safe_serialization=drawn.safe)
    if drawn.generation is not None:
        # save_pretrained refuses some that from_pretrained takes.
        (base / "generation_config.json").write_text(json.dumps(drawn.generation))
    if drawn.lora is None:
        return base
    keys = {**drawn.lora, "task_type": "CAUSAL_LM"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(type(model).from_pretrained(base), LoraConfig(**keys))
        _random(adapted, trained=True)
        adapted.save_pretrained(folder / "adapter")
    return folder / "adapter"


def _ids(folder: Path) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [*tokenizer.get_vocab().values(), *tokenizer("").input_ids]


def _random(model: Any, *, trained: bool = False) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad or not trained:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model.eval()
