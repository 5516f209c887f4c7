"""Adapters of a tiny GPT-2 that PEFT made: any valid ``LoraConfig``, with random values."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Model,
    PreTrainedModel,
)

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.weights import reading
from tests.judges import redraw

IDS = torch.tensor([[1, 5, 9, 30, 7, 39], [2, 2, 38, 11, 0, 4]])
CLASSES: dict[str | None, type[PreTrainedModel]] = {
    "CAUSAL_LM": GPT2LMHeadModel,
    "SEQ_CLS": GPT2ForSequenceClassification,
    "FEATURE_EXTRACTION": GPT2Model,
    None: GPT2LMHeadModel,
}
"""PEFT's task → the class of the base."""


def save_speaking_base(folder: Path, positions: int) -> Path:
    """A language model of two layers whose tokenizer knows the cat, and whose texts vary."""
    tokenizer = Tokenizer.train(["the cat sat on the mat " * 9], 280)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=positions, n_embd=16, n_layer=2, n_head=2,
        bos_token_id=tokenizer.eos, eos_token_id=tokenizer.eos,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    redraw(model, 0.3)
    model.save_pretrained(folder)
    tokenizer.save(folder, positions)
    return folder


def save_base(folder: Path) -> Path:
    """A language model of two layers with random weights."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=40, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=39,
        eos_token_id=39, pad_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    _randomise(model.named_parameters())
    model.save_pretrained(folder)
    return folder


def _randomise(parameters: Any) -> None:
    with torch.no_grad():
        for _, parameter in parameters:
            parameter.copy_(torch.randn_like(parameter) * 0.3)


def base_model(base: Path, task: str | None) -> PreTrainedModel:
    """The base with the head that a task has."""
    torch.manual_seed(1)
    return CLASSES[task].from_pretrained(base, attn_implementation="eager").eval()


def save_adapter(base: Path, folder: Path, seed: int = 0, **config: Any) -> PreTrainedModel:
    """Save an adapter with random values; return the base with it, as PEFT loads it again.

    Raises:
        Exception: PEFT takes no such configuration.
    """
    task = config.get("task_type")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(base_model(base, task), LoraConfig(**config))
        torch.manual_seed(seed)
        _randomise((n, p) for n, p in model.named_parameters() if p.requires_grad)
        model.save_pretrained(folder)
        return load_adapter(base, folder, task)


def load_adapter(base: Path, folder: Path, task: str | None) -> PreTrainedModel:
    """The base with an adapter, as PEFT loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(base_model(base, task), folder).eval()


def outputs(model: PreTrainedModel) -> NDArray[np.float32]:
    """Logits, scores or hidden states."""
    with torch.no_grad():
        found = model(input_ids=IDS)
    key = "logits" if hasattr(found, "logits") else "last_hidden_state"
    array: NDArray[np.float32] = found[key].numpy()
    return array


def read_outputs(weights: Path, base: Path, task: str | None) -> NDArray[np.float32]:
    """The same of weights as they are read here, in transformers' network."""
    found = reading.read(weights)
    model = base_model(base, task)
    state = {name: torch.from_numpy(np.array(array)) for name, array in found.arrays.items()}
    if "lm_head.weight" in state and hasattr(model, "lm_head"):
        model.lm_head.weight = torch.nn.Parameter(state["lm_head.weight"])
    if task == "FEATURE_EXTRACTION":
        state = {name.removeprefix("transformer."): array for name, array in state.items()}
    lost = set(model.load_state_dict(state, strict=False).missing_keys)
    assert lost <= {"lm_head.weight"}, lost
    return outputs(model)


_NAMES = (
    "c_attn", "c_proj", "c_fc", "attn.c_proj", "mlp.c_proj", "h.0.attn.c_attn", "1.mlp.c_fc",
    "wpe",
)  # fmt: skip
_REGEXES = (
    "all-linear", r".*c_attn", r"(.*\.)?h\.1\..*c_(fc|proj)", r".*\.(c_attn|c_fc)", r".*attn\.c_.*",
)  # fmt: skip
_PATTERNS = ("c_attn", "c_.*", r"h\.0\.attn\.c_attn", r".*\.1\..*", "mlp.c_fc")
_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "lora_alpha": st.integers(1, 16) | st.floats(0.5, 8),
    "lora_dropout": st.sampled_from([0.0, 0.1]),
    "use_rslora": st.booleans(),
    "fan_in_fan_out": st.booleans(),
    "bias": st.sampled_from(["none", "all", "lora_only"]),
    "exclude_modules": st.sampled_from([["c_fc"], r".*h\.0\..*", ["h.1.attn.c_attn", "wpe"]]),
    "layers_to_transform": st.sampled_from([0, 1, [1], [0, 1], []]),
    "layers_pattern": st.sampled_from(["h", ["h"], [], "layers"]),
    "rank_pattern": st.dictionaries(st.sampled_from(_PATTERNS), st.integers(1, 4), max_size=2),
    "alpha_pattern": st.dictionaries(st.sampled_from(_PATTERNS), st.integers(1, 9), max_size=2),
    "modules_to_save": st.lists(
        st.sampled_from(["ln_f", "wpe", "ln_1", "mlp", "h.0.ln_2", "wte", "lm_head", "score"]),
        min_size=1, max_size=2, unique=True,
    ),
    "init_lora_weights": st.sampled_from(
        [True, False, "gaussian", "pissa", "olora", "orthogonal", "eva", "mica", "lora_ga",
         "pissa_niter_4"]
    ),
    "trainable_token_indices": st.sampled_from([[0, 39], {"wte": [3]}, {"wpe": [1, 2]}]),
    "use_dora": st.just(True),
    "lora_bias": st.just(True),
    "use_qalora": st.just(True),
    "ensure_weight_tying": st.booleans(),
    "inference_mode": st.booleans(),
    "revision": st.sampled_from([None, "main"]),
    "velora_config": st.just({"num_groups": 2}),
    "monteclora_config": st.just({}),
}  # fmt: skip


@st.composite
def lora_configs(draw: st.DrawFn) -> dict[str, Any]:
    """Keys of any ``LoraConfig``; PEFT still objects to some combinations."""
    targets = st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3, unique=True)
    rare = st.sampled_from([["wte"], ["lm_head", "c_attn"], ["lm_head", "wte"]])
    config = {
        "task_type": draw(st.sampled_from([*CLASSES, "CAUSAL_LM", "CAUSAL_LM"])),
        "r": draw(st.integers(1, 4)),
        "target_modules": draw(targets | targets | targets | st.sampled_from(_REGEXES) | rare),
    }
    for key in draw(st.lists(st.sampled_from(sorted(_KEYS)), max_size=5, unique=True)):
        config[key] = draw(_KEYS[key])
    if isinstance(config["target_modules"], str):
        config.pop("layers_to_transform", None)
    if "layers_to_transform" not in config:
        config.pop("layers_pattern", None)
    return config
