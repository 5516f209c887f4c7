"""The network and the optimizer of a training run, built from its recipe."""

from __future__ import annotations

from typing import Any

from gpt2dsl.data.tokenizer import PUBLISHED, Tokenizer
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.engine.job import Job
from gpt2dsl.engine.language_model import network_of, values_of
from gpt2dsl.engine.progress import saying
from gpt2dsl.layout.lora import lora_specs
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.training.loss_scale import LossScale
from gpt2dsl.training.step import TrainStep
from gpt2dsl.weights.initial import initial, initial_adapters


def train_step(job: Job, team: ParallelContext) -> TrainStep:
    """Return the training step of this rank, with the initial weights."""
    parts = job.parts
    scales = parts.precision.compute == "float16" and parts.precision.loss_scale == "dynamic"
    return TrainStep(
        _network(job, team),
        parts.optim.settings(),
        clip=parts.train.clip,
        scale=LossScale() if scales else None,
        micro_batches=parts.parallel.micro_batches,
        data_group=team.data_group,
        shards_optimizer=parts.parallel.optimizer_shard,
    )


def _network(job: Job, team: ParallelContext) -> GPT2:
    parts, seed = job.parts, job.parts.train.seed
    added = lora_specs(job.geometry, parts.lora.settings()) if parts.lora else []
    options = {
        "adapters": added,
        "adapter_dropout": parts.lora.dropout if parts.lora else 0.0,
        "recompute": parts.parallel.recompute,
        "tensor_group": team.tensor_group,
        "pipeline_group": team.pipeline_group,
    }
    target = parts.runtime.device
    if job.weights:
        with saying(f"loading {job.weights}"):
            network = network_of(
                job.geometry, values_of(job), target, parts.precision.policy, **options
            )
    else:
        values = initial(job.geometry, seed)
        network = network_of(job.geometry, values, target, parts.precision.policy, **options)
    network.load_adapters(initial_adapters(added, seed))
    return network


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
