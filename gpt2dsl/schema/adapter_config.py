"""Keys of PEFT 0.21's adapter_config.json for LoRA, and their fates."""

from __future__ import annotations

from typing import Any

from gpt2dsl.schema.fate import Table, no_effect, only, unset, used

PLAIN = (True, False, None, "gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Values of init_lora_weights with which PEFT leaves the base unchanged on loading."""

_BEGINNING = "how the adapter was initialised; its matrices are in the file"


def _beginning(value: Any) -> str:
    word = value.lower() if isinstance(value, str) else value
    if word in PLAIN or value == "pissa" or word == "olora":
        return ""
    return (
        "its base is changed in a way that can't be computed again; save the adapter with "
        "path_initial_model_for_weight_conversion, which makes plain LoRA of it"
    )


def _unmergeable(kind: str) -> str:
    return f"{kind} can't be added to the base's weights; merge the adapter with PEFT"


TABLE: Table = {
    "peft_type": used("the kind of adapter", only("LORA", cure="only LORA is read here")),
    "task_type": used("the head of the base: a language model's, a classifier's or none"),
    "base_model_name_or_path": used("the weights that the adapter belongs to"),
    "revision": used("the commit of the base on the Hub"),
    "auto_mapping": used("the class of the base, if task_type is not set"),
    "peft_version": no_effect("the version that wrote the file"),
    "inference_mode": no_effect("whether PEFT freezes the adapter when it is loaded"),
    "r": used("the rank"),
    "lora_alpha": used("the numerator of the scale"),
    "use_rslora": used("the scale is alpha / sqrt(r)"),
    "rank_pattern": used("ranks of modules by regex"),
    "alpha_pattern": used("alphas of modules by regex"),
    "target_modules": used("which modules have an adapter"),
    "exclude_modules": used("which modules have none"),
    "layers_to_transform": used("which blocks have adapters"),
    "layers_pattern": used("the name that precedes a block's number"),
    "lora_dropout": no_effect("it acts in training only; it is kept when the adapter is written"),
    "fan_in_fan_out": no_effect("PEFT takes it from the kind of each module, as is done here"),
    "bias": used(
        "which biases were trained; those in the file are used",
        only("none", "all", "lora_only", cure="none, all or lora_only is expected"),
    ),
    "lora_bias": used("B adds a bias"),
    "modules_to_save": used("modules saved in full"),
    "trainable_token_indices": used("rows of the embedding that the file holds"),
    "ensure_weight_tying": used("whether the head is tied to the adapter's token embedding"),
    "use_dora": used("a magnitude for each output"),
    "init_lora_weights": used(_BEGINNING, _beginning),
    "eva_config": no_effect(_BEGINNING),
    "corda_config": no_effect(_BEGINNING),
    "loftq_config": no_effect(_BEGINNING),
    "lora_ga_config": no_effect(_BEGINNING),
    "velora_config": no_effect("it changes only the backward pass"),
    "monteclora_config": no_effect("it samples in training only"),
    "use_qalora": no_effect("PEFT uses it only for weights quantised with GPTQ"),
    "qalora_group_size": no_effect("PEFT uses it only for weights quantised with GPTQ"),
    "runtime_config": no_effect("PEFT drops it from files"),
    "megatron_core": no_effect("only used together with megatron_config"),
    "megatron_config": used("", unset("layers of Megatron are not read here")),
    "layer_replication": used("", unset("PEFT has it for no GPT-2")),
    "target_parameters": used(
        "", unset("adapters of parameters are not read here; name modules in target_modules")
    ),
    "alora_invocation_tokens": used("", unset(_unmergeable("an adapter that tokens switch on"))),
    "arrow_config": used("", only(None, cure=_unmergeable("a mixture of adapters"))),
    "kasa_config": used("", only(None, cure="PEFT has KaSA for no Conv1D")),
    "use_bdlora": used("", only(None, cure="PEFT has block-diagonal LoRA for no Conv1D")),
}
