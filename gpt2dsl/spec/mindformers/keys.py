"""Fate of the keys of MindFormers 0.8's configurations of GPT-2 that ``carrying`` does not read.

They have no effect, here or in MindFormers, or no counterpart here; each has a reason. Source:
mindformers 0.8.0, configs/gpt2 and the code that reads them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from gpt2dsl.errors import Fault
from gpt2dsl.spec.mindformers.document import ConfigEntry

NO_EFFECT, NO_COUNTERPART = "no effect", "no counterpart"
_CLOSE = 0.75
"""Likeness from which on a key is suggested for another one."""

_WHERE = "runs have directories of their own, under runtime.output"
_ALWAYS_GRAPH = "graphs are always compiled whole"
_CLUSTER = "ModelArts' object storage; copy the run's directory"
_LOADER = "reading data is never what training waits for"
_MOE = "parsed there and never given to GPT-2"
_PROFILE = "gpt2dsl run SPEC --profile"
_TOKENIZER = "the tokenizer is the weights' own; all special tokens are GPT-2's end of text"
_VIT = "of vision models"
_COLUMNS = "the columns of MindRecord are known"
_NO_ADAPTER = "read where pet_type is lora"
_ANY_SIDE = {
    "num_parallel_workers": _LOADER, "prefetch_size": _LOADER, "python_multiprocessing": _LOADER,
    "numa_enable": _LOADER, "input_columns": _COLUMNS, "output_columns": _COLUMNS,
}  # fmt: skip
_ANY_LAYOUT = "checkpoints are read under every layout"
_SCALES = "starts at 2^16, doubles after 1,000 clean steps"

NO_EFFECT_KEYS: dict[str, str] = {
    "auto_trans_ckpt": "any run reads a checkpoint of any layout",
    "only_save_strategy": "gpt2dsl plan SPEC --strategies DIR",
    "src_strategy_path_or_dir": "strategy files beside the weights are found",
    "output_dir": _WHERE,
    "resume_training": "a run goes on where it was; train.resume = never starts anew",
    "context.mode": _ALWAYS_GRAPH,
    "context.device_id": "ranks take the devices of their machine in order",
    "context.enable_graph_kernel": "fusions are the compiler's own choice",
    "context.graph_kernel_flags": "fusions are the compiler's own choice",
    "context.max_call_depth": "no graph here is so deep",
    "context.save_graphs": "MindSpore's MS_DEV_SAVE_GRAPHS does it",
    "context.save_graphs_path": "MindSpore's MS_DEV_SAVE_GRAPHS_PATH does it",
    "runner_config.sink_mode": "steps are not grouped: every step can be seen, saved and resumed",
    "runner_config.sink_size": "steps are not grouped: every step can be seen, saved and resumed",
    "runner_wrapper.type": "the training step is one",
    "runner_wrapper.scale_sense.loss_scale_value": _SCALES,
    "runner_wrapper.scale_sense.scale_factor": _SCALES,
    "runner_wrapper.scale_sense.scale_window": _SCALES,
    "parallel.gradients_mean": "the loss is the mean over the global batch, under every layout",
    "parallel.loss_repeated_mean": "the loss is the mean over the global batch, under every layout",
    "parallel.full_batch": "each rank reads its own rows of the global batch",
    "parallel.search_mode": "nothing is searched: the plan places every collective",
    "parallel.strategy_ckpt_save_file": "gpt2dsl plan SPEC --strategies DIR",
    "parallel_config.vocab_emb_dp": "the word table is split over mp, its rows padded",
    "parallel_config.gradient_aggregation_group": "gradients are summed in buckets",
    "parallel_config.optimizer_shard": "deprecated there; enable_parallel_optimizer counts",
    "moe_config.expert_num": _MOE,
    "moe_config.capacity_factor": _MOE,
    "moe_config.aux_loss_factor": _MOE,
    "moe_config.num_experts_chosen": _MOE,
    "recompute_config.parallel_optimizer_comm_recompute": "not forwarded by GPT-2 there",
    "recompute_config.mp_comm_recompute": "not forwarded by GPT-2 there",
    "auto_tune": _LOADER,
    "filepath_prefix": _LOADER,
    "autotune_per_step": _LOADER,
    "trainer.type": "the task and the head say it",
    "trainer.model_name": "model_config has its numbers",
    "train_dataset_task.type": "the task and the head say it",
    "eval_dataset_task.type": "the task and the head say it",
    "train_dataset.data_loader.shuffle": "rows are shuffled in training and never in evaluation",
    "eval_dataset.data_loader.shuffle": "rows are shuffled in training and never in evaluation",
    "train_dataset.tokenizer.type": _TOKENIZER,
    "eval_dataset.tokenizer.type": _TOKENIZER,
    "train_dataset.tokenizer.max_length": "not read with MindDataset there; train.seq_length here",
    "eval_dataset.tokenizer.max_length": "not read with MindDataset there; train.seq_length here",
    "train_dataset.batch_size": "always overwritten there by runner_config.batch_size",
    "train_dataset.drop_remainder": "training drops a short batch, evaluation weighs it rightly",
    "eval_dataset.drop_remainder": "training drops a short batch, evaluation weighs it rightly",
    "model.model_config.type": "there is one network",
    "model.model_config.layernorm_compute_type": "norms are computed in float32",
    "model.model_config.softmax_compute_type": "softmax is computed in float32",
    "model.model_config.compute_dtype": "reaches the classification head alone there",
    "model.model_config.use_past": "generation always has a cache",
    "model.model_config.batch_size": "the cache is as large as it has to be",
    "model.arch.type": "the classifier's labels say it",
    "layer_scale": _VIT,
    "layer_decay": _VIT,
    "lr_scale_factor": "read where lr_scale is on",
    "callbacks[MFLossMonitor].type": "metrics.jsonl and the progress bar have every step",
    "callbacks[CheckpointMointor].type": "checkpoints are always written",
    "callbacks[CheckpointMointor].integrated_save": _ANY_LAYOUT,
    "callbacks[CheckpointMointor].save_network_params": _ANY_LAYOUT,
    "callbacks[CheckpointMointor].save_trainable_params": "adapters are saved by themselves",
    "callbacks[CheckpointMointor].async_save": "train.async_save is on unless it is turned off",
    "callbacks[ObsMonitor].type": _CLUSTER,
    "eval_callbacks[ObsMonitor].type": _CLUSTER,
    "remote_save_url": _CLUSTER,
    "metric.type": "the task's own: perplexity, or accuracy with a classifier",
    "metric.eval_type": "the task's own: perplexity, or accuracy with a classifier",
    "processor.type": _TOKENIZER,
    "processor.return_tensors": _TOKENIZER,
    "processor.tokenizer.type": _TOKENIZER,
    "processor.tokenizer.unk_token": _TOKENIZER,
    "processor.tokenizer.bos_token": _TOKENIZER,
    "processor.tokenizer.eos_token": _TOKENIZER,
    "processor.tokenizer.pad_token": _TOKENIZER,
    "profile_start_step": _PROFILE,
    "profile_stop_step": _PROFILE,
    "init_start_profile": _PROFILE,
    "profile_communication": _PROFILE,
    "profile_memory": _PROFILE,
    "predict_data": "read by predict alone",
    "eval_step_interval": "read where do_eval is on",
    "callbacks[CheckpointMointor].keep_checkpoint_max": "nothing is trained",
    **{
        f"model.model_config.pet_config.{name}": _NO_ADAPTER
        for name in ("lora_rank", "lora_alpha", "lora_dropout", "target_modules")
    },
    **{
        f"{side}_dataset.{name}": why
        for side in ("train", "eval")
        for name, why in _ANY_SIDE.items()
    },
}

NO_COUNTERPART_KEYS: dict[str, str] = {
    "context.max_device_memory": "the plan says what a rank needs; nothing caps it",
    "micro_batch_interleave_num": "a batch is not interleaved to overlap communication",
    "recompute_config.recompute_slice_activation": "what is kept is not cut over mp",
    "callbacks[CheckpointMointor].prefix": "a run is named after its recipe",
    "lr_schedule.warmup_lr_init": "a warm-up begins at 0",
    "lr_schedule.warmup_epochs": "schedule.warmup takes steps, or a share of all steps",
    "train_dataset.eod_reset": "documents of a row see each other",
    "train_dataset.repeat": "train.epochs repeats",
    "eval_dataset.repeat": "an evaluation reads the data once",
}

NEUTRAL: dict[str, object] = {
    "micro_batch_interleave_num": 1,
    "recompute_config.recompute_slice_activation": False,
    "lr_schedule.warmup_lr_init": 0,
    "train_dataset.eod_reset": False,
    "train_dataset.repeat": 1,
    "eval_dataset.repeat": 1,
}
"""Values at which keys without a counterpart have no effect in MindFormers."""


def fate(key: str, value: object) -> tuple[str, str] | None:
    """Return fate and reason of a key that is not carried over; None for an unknown one."""
    if key in NEUTRAL and value == NEUTRAL[key]:
        return NO_EFFECT, f"{value} changes nothing there either"
    if key in NO_EFFECT_KEYS:
        return NO_EFFECT, NO_EFFECT_KEYS[key]
    if key in NO_COUNTERPART_KEYS:
        return NO_COUNTERPART, NO_COUNTERPART_KEYS[key]
    return None


def unknown(entry: ConfigEntry, asked: Iterable[str]) -> Fault:
    """Return the fault of an unknown key; those that ``carrying`` asked for are suggested too."""
    near = _nearest(entry.key, {*asked, *NO_EFFECT_KEYS, *NO_COUNTERPART_KEYS})
    what = "option" if entry.origin.startswith("--") else "line"
    hint = f"; did you mean {near}? Delete" if near else "; delete"
    cure = f"{hint} the {what} if it is not needed"
    message = f"MindFormers 0.8's GPT-2 knows no such key{cure}"
    return Fault("G2-101", entry.origin, entry.key, message)


def _nearest(key: str, known: Iterable[str]) -> str:
    """Return the key of ``known`` whose last word is close to that of ``key``; "" for none.

    One of the same table comes first, then one of a table with a close name, then one of any
    table, where no other has such a word.
    """
    table, _, word = key.rpartition(".")
    of = {name: name.rpartition(".") for name in sorted(known)}
    close = [name for name, (_, _, last) in of.items() if _likeness(word, last) >= _CLOSE]
    same_table = [name for name in close if of[name][0] == table]
    akin = [name for name in close if _likeness(table, of[name][0]) >= _CLOSE]
    candidates = same_table or akin or (close if len(close) == 1 else [])
    return max(candidates, key=lambda name: _likeness(key, name), default="")


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()
