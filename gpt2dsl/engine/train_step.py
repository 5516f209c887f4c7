"""The network and the optimizer of a training run, built from its recipe."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from gpt2dsl.data.tokenizer import PUBLISHED, Tokenizer
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.engine.job import Job
from gpt2dsl.engine.language_model import unloaded, values_of
from gpt2dsl.engine.progress import saying
from gpt2dsl.layout.lora import lora_specs
from gpt2dsl.training.loss_scale import LossScale
from gpt2dsl.training.step import TrainStep
from gpt2dsl.weights.initial import initial, initial_adapters
from gpt2dsl.weights.values import Values


def train_step(job: Job, team: ParallelContext) -> TrainStep:
    """Return the training step of this rank, whose parameters are zero until they are loaded."""
    parts = job.parts
    scales = parts.precision.compute == "float16" and parts.precision.loss_scale == "dynamic"
    network = unloaded(
        job.geometry,
        parts.runtime.device,
        parts.precision.policy,
        adapters=lora_specs(job.geometry, parts.lora.settings()) if parts.lora else [],
        adapter_dropout=parts.lora.dropout if parts.lora else 0.0,
        recompute=parts.parallel.recompute,
        tensor_group=team.tensor_group,
        pipeline_group=team.pipeline_group,
    )
    return TrainStep(
        network,
        parts.optim.settings(),
        clip=parts.train.clip,
        scale=LossScale() if scales else None,
        micro_batches=parts.parallel.micro_batches,
        data_group=team.data_group,
        shards_optimizer=parts.parallel.optimizer_shard,
    )


def load_initial(step: TrainStep, job: Job, team: ParallelContext) -> None:
    """Load what training begins with: weights, new where the recipe names none, and adapters."""
    with saying(f"loading {job.weights}") if job.weights else nullcontext():
        step.network.load(initial_values(job, team))
    adapters = initial_adapters(step.network.adapters, job.parts.train.seed)
    step.network.load_adapters(Values(adapters))
    step.weights_changed()


def initial_values(job: Job, team: ParallelContext) -> Values:
    """Return the weights that training begins with, of which nothing is read or drawn yet."""
    if job.weights:
        return values_of(job, contents=team.is_main_process)
    return Values(initial(job.geometry, job.parts.train.seed))


def config_of(job: Job) -> dict[str, Any]:
    """Return config.json of the initial weights, {} without one.

    Its token ids belong to its own tokenizer: they are dropped if another one is used.
    """
    if job.weights_info is None:
        return {}
    is_own = _has_own_tokenizer(job)
    return {
        k: v for k, v in job.weights_info.config.items() if is_own or not k.endswith("_token_id")
    }


def generation_of(job: Job, tokenizer: Tokenizer) -> dict[str, Any] | None:
    """Return the contents of generation_config.json, None for a minimal one.

    Its bos, eos and pad ids come from the tokenizer, if that is not the one of the weights.
    """
    if job.generation_config is None:
        return None
    content = dict(job.generation_config)
    if _has_own_tokenizer(job):
        return content
    for token in ("bos", "eos", "pad"):
        content.pop(f"{token}_token_id", None)
        if (token_id := getattr(tokenizer, token)) is not None:
            content[f"{token}_token_id"] = token_id
    return content


def _has_own_tokenizer(job: Job) -> bool:
    info = job.weights_info
    return info is not None and job.tokenizer == str(info.tokenizer or PUBLISHED)
