"""Names of Hugging Face's TrainingArguments, and what stands for each of them here."""

from __future__ import annotations

import attrs


@attrs.frozen
class Argument:
    """Arguments of Trainer with one meaning.

    Attributes:
        names: the arguments.
        here: what stands for them, as Markdown; "" for nothing.
        differs: what differs from Trainer, or why there is nothing, as Markdown.
    """

    names: tuple[str, ...]
    here: str = ""
    differs: str = ""


ARGUMENTS = (
    Argument(
        ("per_device_train_batch_size",),
        "`train.batch_size` over all devices",
        "the global batch, including micro-batches: independent of the number of devices",
    ),
    Argument(
        ("gradient_accumulation_steps",),
        "`parallel.micro_batches`",
        "divides the batch instead of multiplying it",
    ),
    Argument(
        ("num_train_epochs",),
        "`train.epochs`",
        "default 1 if `train.steps` is not set either (Trainer: 3); drops an incomplete last batch",
    ),
    Argument(("max_steps",), "`train.steps`"),
    Argument(("learning_rate",), "`optim.lr`", "default 1e-4 (Trainer: 5e-5)"),
    Argument(
        ("weight_decay",),
        "`optim.weight_decay`",
        "default 0.1 (Trainer: 0); both skip biases and norms",
    ),
    Argument(("adam_beta1",), "`optim.beta1`"),
    Argument(("adam_beta2",), "`optim.beta2`", "default 0.95 (Trainer: 0.999)"),
    Argument(("adam_epsilon",), "`optim.eps`"),
    Argument(("optim",), "`optim.name`", "`adamw` and `sgd` only"),
    Argument(
        ("lr_scheduler_type",),
        "`schedule.kind`",
        "default `polynomial`, ending at `schedule.end` = 1e-5; `linear` ends at 0, as in Trainer",
    ),
    Argument(
        ("warmup_steps", "warmup_ratio"),
        "`schedule.warmup`",
        "a number of steps, or a fraction below 1",
    ),
    Argument(("max_grad_norm",), "`train.clip`"),
    Argument(("seed", "data_seed"), "`train.seed`"),
    Argument(
        ("eval_strategy", "eval_steps"),
        "`train.evaluate_every`, with `task.eval_data`",
        "also before the first and after the last step",
    ),
    Argument(
        ("save_strategy", "save_steps"),
        "`train.save_every`",
        "also after the last step, and when a run is stopped",
    ),
    Argument(("save_total_limit",), "`train.keep`"),
    Argument(
        ("load_best_model_at_end",),
        "`train.best`",
        "keeps the best in addition to the newest; the result names it",
    ),
    Argument(("EarlyStoppingCallback", "early_stopping_patience"), "`train.patience`"),
    Argument(
        ("resume_from_checkpoint",),
        "`train.resume`",
        "default `auto`: the same command continues, bit for bit",
    ),
    Argument(
        ("output_dir",),
        "`runtime.output`",
        "contains one folder per recipe; nothing is overwritten",
    ),
    Argument(("run_name",), "the recipe's name"),
    Argument(("fp16",), '`precision.compute = "float16"`'),
    Argument(("bf16",), '`precision.compute = "bfloat16"`', "not on CPU"),
    Argument(("gradient_checkpointing",), "`parallel.recompute`", "`full` or `selective`"),
    Argument(("logging_steps", "logging_strategy"), "", "`metrics.jsonl` has every step"),
    Argument(
        ("report_to",),
        "`runtime.tensorboard`",
        "for other trackers, use a [callback](training.md#progress-and-reports)",
    ),
    Argument(
        ("remove_unused_columns",),
        "",
        "`data.text_column` names the column, and nothing else is read",
    ),
    Argument(
        ("dataloader_num_workers", "dataloader_pin_memory", "dataloader_drop_last"),
        "",
        "nothing to tune",
    ),
    Argument(
        ("fsdp", "deepspeed"),
        "`parallel.dp`, `mp`, `pp`, `optimizer_shard`",
        "[Parallel layouts](parallel.md); ZeRO-1, no offloading",
    ),
    Argument(("torch_compile",), "", "always compiled"),
    Argument(("push_to_hub",), "", "upload the checkpoint's folder with `hf upload`"),
    Argument(("label_smoothing_factor", "neftune_noise_alpha", "group_by_length"), "", "not there"),
)


def hint(name: str) -> str:
    """Return what stands for an argument of Trainer, after "unknown key"; "" for other names."""
    for argument in ARGUMENTS:
        if name in argument.names:
            here = argument.here.replace("`", "")
            nothing = f"has no key here: {argument.differs.replace('`', '')}"
            return f"; Trainer's {name} {f'is {here} here' if here else nothing}"
    return ""


def field(name: str, table: str) -> str:
    """Return the key of a table that stands for an argument of Trainer, "" if none does."""
    for argument in ARGUMENTS:
        if name in argument.names and argument.here.startswith(f"`{table}."):
            return argument.here.split("`")[1].partition(" ")[0].rpartition(".")[2]
    return ""
