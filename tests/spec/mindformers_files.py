"""MindFormers 0.8's eight configurations of GPT-2, from the facts of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

_COLUMNS = ["input_ids", "attention_mask"]


def _dataset(length: int, *, shuffle: bool, drop: bool) -> dict[str, Any]:
    return {
        "data_loader": {"type": "MindDataset", "dataset_dir": "", "shuffle": shuffle},
        "tokenizer": {"type": "GPT2Tokenizer", "max_length": length},
        "input_columns": _COLUMNS,
        "num_parallel_workers": 8,
        "python_multiprocessing": False,
        "drop_remainder": drop,
        "repeat": 1,
        "numa_enable": False,
        "prefetch_size": 1,
    }


def base() -> dict[str, Any]:
    """run_gpt2.yaml."""
    special = dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"), "<|endoftext|>")
    return {
        "seed": 0,
        "run_mode": "train",
        "output_dir": "./output",
        "load_checkpoint": "",
        "src_strategy_path_or_dir": "",
        "auto_trans_ckpt": False,
        "only_save_strategy": False,
        "resume_training": False,
        "context": {"mode": 0, "device_target": "Ascend", "device_id": 0},
        "remote_save_url": "obs",
        "runner_config": {"epochs": 3, "batch_size": 4, "sink_mode": True, "sink_size": 2},
        "runner_wrapper": {
            "type": "MFTrainOneStepCell",
            "scale_sense": {
                "type": "DynamicLossScaleUpdateCell",
                "loss_scale_value": 4294967296,
                "scale_factor": 2,
                "scale_window": 1000,
            },
            "use_clip_grad": True,
        },
        "use_parallel": False,
        "parallel": {
            "parallel_mode": 0,
            "gradients_mean": True,
            "search_mode": "sharding_propagation",
            "enable_parallel_optimizer": False,
        },
        "parallel_config": {
            "data_parallel": 1,
            "model_parallel": 1,
            "pipeline_stage": 1,
            "use_seq_parallel": False,
            "micro_batch_num": 1,
            "vocab_emb_dp": True,
            "gradient_aggregation_group": 4,
        },
        "micro_batch_interleave_num": 1,
        "moe_config": {
            "expert_num": 1, "capacity_factor": 1.05, "aux_loss_factor": 0.05,
            "num_experts_chosen": 1,
        },
        "recompute_config": {
            "recompute": False,
            "select_recompute": False,
            "parallel_optimizer_comm_recompute": False,
            "mp_comm_recompute": True,
            "recompute_slice_activation": False,
        },
        "auto_tune": False,
        "filepath_prefix": "./autotune",
        "autotune_per_step": 10,
        "profile": False,
        "profile_start_step": 1,
        "profile_stop_step": 10,
        "init_start_profile": False,
        "profile_communication": False,
        "profile_memory": True,
        "trainer": {"type": "CausalLanguageModelingTrainer", "model_name": "gpt2"},
        "do_eval": False,
        "train_dataset": {**_dataset(1025, shuffle=True, drop=True), "batch_size": 8},
        "train_dataset_task": {"type": "CausalLanguageModelDataset"},
        "eval_dataset": _dataset(1024, shuffle=False, drop=False),
        "eval_dataset_task": {"type": "CausalLanguageModelDataset"},
        "model": {
            "model_config": {
                "type": "GPT2Config",
                "seq_length": 1024,
                "vocab_size": 50257,
                "hidden_size": 768,
                "num_layers": 12,
                "num_heads": 12,
                "expand_ratio": 4,
                "hidden_act": "gelu",
                "hidden_dropout_rate": 0.1,
                "attention_dropout_rate": 0.1,
                "param_init_type": "float32",
                "layernorm_compute_type": "float32",
                "softmax_compute_type": "float32",
                "compute_dtype": "float16",
                "checkpoint_name_or_path": "gpt2",
                "eos_token_id": 50256,
                "repetition_penalty": 1,
                "max_decode_length": 1024,
                "top_k": 5,
                "top_p": 1,
                "do_sample": True,
                "use_past": False,
            },
            "arch": {"type": "GPT2LMHeadModel"},
        },
        "lr_schedule": {
            "type": "polynomial", "learning_rate": 1e-4, "lr_end": 1e-5, "warmup_steps": 0,
            "total_steps": -1,
        },
        "layer_scale": False,
        "layer_decay": 0.65,
        "optimizer": {
            "type": "FusedAdamWeightDecay", "beta1": 0.9, "beta2": 0.95, "eps": 1e-8,
            "weight_decay": 0.1,
        },
        "lr_scale": False,
        "lr_scale_factor": 256,
        "callbacks": [
            {"type": "MFLossMonitor"},
            {
                "type": "CheckpointMointor", "prefix": "gpt", "save_checkpoint_steps": 1,
                "integrated_save": True, "save_network_params": True,
                "save_trainable_params": False, "async_save": False,
            },
            {"type": "ObsMonitor"},
        ],
        "eval_callbacks": [{"type": "ObsMonitor"}],
        "metric": {"type": "PerplexityMetric"},
        "processor": {
            "return_tensors": "ms",
            "tokenizer": {**special, "type": "GPT2Tokenizer"},
            "type": "GPT2Processor",
        },
    }  # fmt: skip


def changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A document with dotted keys set."""
    found = copy.deepcopy(document)
    for key, value in changes.items():
        *path, last = key.split(".")
        table = found
        for name in path:
            table = table.setdefault(name, {}) if name != "saving" else found["callbacks"][1]
        table[last] = value
    return found


_CLUSTER = {
    "context.enable_graph_kernel": False,
    "context.graph_kernel_flags": "--disable_expand_ops=Softmax,Dropout",
    "context.max_call_depth": 10000,
    "context.max_device_memory": "30GB",
    "context.save_graphs": False,
    "context.save_graphs_path": "./graph",
    "use_parallel": True,
    "parallel.parallel_mode": 1,
    "parallel.gradients_mean": False,
    "parallel.loss_repeated_mean": True,
    "parallel.full_batch": True,
    "parallel.enable_parallel_optimizer": True,
    "parallel.strategy_ckpt_save_file": "./ckpt_strategy.ckpt",
    "parallel_config.data_parallel": 8,
    "recompute_config.recompute": True,
    "auto_tune": True,
    "init_start_profile": True,
    "profile_communication": True,
    "runner_config.epochs": 2,
    "runner_config.batch_size": 8,
    "model.model_config.hidden_act": "fast_gelu",
    "model.model_config.param_init_type": "float16",
    "model.model_config.softmax_compute_type": "float16",
    "lr_schedule.warmup_steps": 2000,
    "saving.save_checkpoint_steps": 500,
}
_XL = {
    **_CLUSTER,
    "model.model_config.hidden_size": 1600,
    "model.model_config.num_layers": 48,
    "model.model_config.num_heads": 25,
    "model.model_config.checkpoint_name_or_path": "gpt2_xl",
}
_13B = {
    **_CLUSTER,
    "runner_config.batch_size": 2,
    "parallel_config.data_parallel": 4,
    "parallel_config.model_parallel": 8,
    "model.model_config.seq_length": 2048,
    "model.model_config.hidden_size": 5120,
    "model.model_config.num_layers": 40,
    "model.model_config.num_heads": 40,
    "model.model_config.checkpoint_name_or_path": "",
    "lr_schedule.learning_rate": 5e-5,
    "lr_schedule.lr_end": 1e-6,
}
_LORA = {
    "run_mode": "finetune",
    "load_checkpoint": "gpt2",
    "runner_config.batch_size": 8,
    "parallel.gradients_mean": False,
    "parallel.full_batch": True,
    "model.model_config.checkpoint_name_or_path": "gpt2_lora",
    "model.model_config.pet_config.pet_type": "lora",
    "model.model_config.pet_config.lora_rank": 64,
    "model.model_config.pet_config.lora_alpha": 128,
    "model.model_config.pet_config.lora_dropout": 0.1,
    "model.model_config.pet_config.target_modules": ".*dense1.*|.*dense3.*",
    "lr_schedule.learning_rate": 1e-3,
    "lr_schedule.lr_end": 1e-4,
}
CHANGES: dict[str, dict[str, Any]] = {
    "run_gpt2": {},
    "run_gpt2_xl": {**_XL, "lr_schedule.learning_rate": 5e-5, "lr_schedule.lr_end": 1e-6},
    "run_gpt2_13b": _13B,
    "run_gpt2_13b_910b": {
        **_13B,
        "context.max_device_memory": "59GB",
        "parallel_config.data_parallel": 8,
        "parallel_config.model_parallel": 1,
        "parallel_config.optimizer_shard": True,
        "recompute_config.recompute_slice_activation": True,
        "lr_schedule.warmup_steps": 0,
    },
    "run_gpt2_52b": {
        **_13B,
        "parallel_config.data_parallel": 8,
        "parallel_config.model_parallel": 1,
        "parallel_config.pipeline_stage": 16,
        "parallel_config.micro_batch_num": 64,
        "model.model_config.seq_length": 1024,
        "model.model_config.hidden_size": 8192,
        "model.model_config.num_layers": 64,
        "model.model_config.num_heads": 32,
        "saving.save_checkpoint_steps": 100,
    },
    "run_gpt2_lora": _LORA,
    "run_gpt2_xl_lora": {
        **_XL,
        **{key: value for key, value in _LORA.items() if "lr_" not in key},
        "load_checkpoint": "gpt2_xl",
        "model.model_config.checkpoint_name_or_path": "gpt2_xl_lora",
        "lr_schedule.learning_rate": 5e-4,
    },
    "run_gpt2_txtcls": {
        "run_mode": "finetune",
        "runner_config.epochs": 1,
        "runner_config.batch_size": 16,
        "runner_config.sink_mode": False,
        "parallel.full_batch": True,
        "trainer.type": "TextClassificationTrainer",
        "trainer.model_name": "gpt2_txtcls",
        "train_dataset_task.type": "TextClassificationDataset",
        "eval_dataset_task.type": "TextClassificationDataset",
        "model.model_config.num_labels": 2,
        "model.arch.type": "GPT2ForSequenceClassification",
        "saving.save_checkpoint_steps": 100,
        "metric.type": "Accuracy",
        "metric.eval_type": "classification",
    },
}
"""File → what differs from run_gpt2.yaml."""


def write(folder: Path, name: str, changes: dict[str, Any] | None = None) -> Path:
    """One of the files, changed further."""
    path = folder / f"{name}.yaml"
    document = changed(changed(base(), CHANGES[name]), changes or {})
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
