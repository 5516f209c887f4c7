"""Descriptions, faults and notes of training: parameter groups, adapters, dtypes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2dsl.engine.lr_schedule import warmup_steps
from gpt2dsl.errors import Fault
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.flops import model_flops
from gpt2dsl.layout.lora import LoRASpec, lora_specs, matches
from gpt2dsl.layout.params import decays, param_specs
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.checks import NETWORK, fault

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import WeightsInfo


def trained_shapes(parts: Parts, geometry: GPT2Config) -> list[tuple[int, ...]]:
    """Return the shape of each trained tensor: all, or those of LoRA and the classifier's head."""
    if parts.lora is None:
        return [tensor.shape for tensor in param_specs(geometry)]
    specs = lora_specs(geometry, parts.lora.settings())
    shapes: list[tuple[int, ...]] = [shape for spec in specs for shape in spec.shapes.values()]
    return [*shapes, (geometry.labels, geometry.hidden)] if geometry.labels else shapes


def optimizer_words(parts: Parts, shapes: Sequence[tuple[int, ...]]) -> str:
    """Return a description of the optimizer, with how many tensors decay."""
    optim = parts.optim
    decayed = sum(map(decays, shapes))
    words = f"{optim.name}, lr {optim.lr:g}, {parts.schedule.kind}"
    if optim.name == "sgd":
        words += f", momentum {optim.momentum:g}"
    elif not optim.bias_correction:
        words += ", without bias correction"
    if optim.weight_decay:
        words += f"; decay {optim.weight_decay:g} of {decayed} matrices and tables"
        if others := len(shapes) - decayed:
            words += f", none of {others} biases and norms"
    return words


def flops(parts: Parts, geometry: GPT2Config) -> int:
    """Return the model FLOPs of a step."""
    train, frozen = parts.train, parts.lora is not None
    return model_flops(geometry, train.batch_size, train.seq_length, frozen=frozen)


def precision_words(parts: Parts) -> str:
    """Return a description of the dtypes that are not float32."""
    precision = parts.precision
    words = []
    if precision.params != "float32":
        masters = " with float32 master weights" if parts.trains else ""
        words.append(f"parameters in {precision.params}{masters}")
    if precision.compute != "float32":
        words.append(f"products in {precision.compute}")
        if parts.trains and precision.compute == "float16":
            dynamic = precision.loss_scale == "dynamic"
            words.append("dynamic loss scale from 65,536" if dynamic else "no loss scale")
    return ", ".join(words)


def adapter_words(parts: Parts, geometry: GPT2Config) -> str:
    """Return a description of the adapters that are trained; "" for none."""
    if parts.lora is None or not parts.trains:
        return ""
    lora, specs = parts.lora, lora_specs(geometry, parts.lora.settings())
    ranks = ", ".join(map(str, sorted({spec.rank for spec in specs})))
    scales = ", ".join(f"{scale:g}" for scale in sorted({spec.scale for spec in specs}))
    words = f"rank {ranks}, scale {scales}, on {len(specs)} modules that match {lora.targets!r}"
    return f"{words}, dropout {lora.dropout:g}" if lora.dropout else words


def notes_of_steps(parts: Parts, steps: int) -> Iterator[str]:
    """Yield the notes that depend on the number of steps; 0 where it is unknown."""
    share = parts.schedule.warmup
    if parts.trains and steps and share and not warmup_steps(parts.schedule, steps):
        yield f"schedule.warmup = {share:g} of {steps:,} steps is less than half a step: no warm-up"
    if parts.trains and steps and parts.value("task.eval_data"):
        yield from _of_evaluations(parts, steps)


def _of_evaluations(parts: Parts, steps: int) -> Iterator[str]:
    """Yield a note on evaluations that are never due, or too few to stop a training early."""
    every, patience = parts.train.evaluate_every, parts.train.patience
    if not every:
        return
    if every >= steps:
        yield (
            f"train.evaluate_every = {every:,} is never due in {steps:,} steps: held-out text is "
            "evaluated before and after them only"
        )
    evaluations = (steps - 1) // every  # between the first and the last step
    if patience > evaluations:
        yield (
            f"train.patience = {patience:,} never stops this training: its {steps:,} steps have "
            f"{evaluations:,} evaluations before the last, one each {every:,} steps"
        )


def notes_of_files(parts: Parts, geometry: GPT2Config) -> Iterator[str]:
    """Yield a note on adapters of q, k and v, which PEFT's files have as one."""
    assert parts.lora is not None
    thirds = _thirds(lora_specs(geometry, parts.lora.settings()))
    if not thirds:
        return
    first = next(iter(thirds.values()))
    names = " and ".join(spec.third for spec in first)
    rank = sum(spec.rank for spec in first)
    yield (
        f"the adapters on {names} are saved as one of rank {rank} on c_attn, which PEFT knows only "
        "as a whole; a resume takes them apart again"
    )


def faults(parts: Parts, geometry: GPT2Config) -> list[Fault]:
    """Return the faults of dtypes and adapters."""
    return [*_formats(parts), *_adapters(parts, geometry)]


def _formats(parts: Parts) -> Iterator[Fault]:
    for key in ("params", "compute"):
        if getattr(parts.precision, key) == "bfloat16" and parts.runtime.device == "cpu":
            message = "MindSpore computes nothing in bfloat16 on cpu; ascend and gpu do"
            yield fault(parts, "G2-107", f"precision.{key}", message, "runtime.device")


def _adapters(parts: Parts, geometry: GPT2Config) -> Iterator[Fault]:
    lora = parts.lora
    if lora is None:
        return
    if parts.task and not parts.trains:
        message = f"{parts.task.kind} trains no adapter; name a trained one by its folder"
        yield Fault("G2-107", lora.origin, "lora", message)
    patterns = {
        "targets": [lora.targets],
        "rank_pattern": [*lora.rank_pattern],
        "alpha_pattern": [*lora.alpha_pattern],
    }
    errors = [(key, _wrong(pattern)) for key, listed in patterns.items() for pattern in listed]
    broken = [(key, error) for key, error in errors if error]
    for key, error in broken:
        yield fault(parts, "G2-202", f"lora.{key}", f"expected a regex: {error}")
    if broken:
        return
    specs = lora_specs(geometry, lora.settings())
    if not specs:
        message = "it matches no module; c_attn, attn.c_proj, c_fc, mlp.c_proj, q, k, v are there"
        yield fault(parts, "G2-202", "lora.targets", message, compared=NETWORK)
    yield from _unmatched(parts, specs)
    for module, thirds in _thirds(specs).items():
        if len({spec.scale for spec in thirds}) > 1:
            message = f"the thirds of {module} have different scales, which PEFT's files can't hold"
            yield fault(
                parts,
                "G2-202",
                "lora.rank_pattern",
                message,
                "lora.alpha_pattern",
                compared=("lora",),
            )
            break


def _unmatched(parts: Parts, specs: list[LoRASpec]) -> Iterator[Fault]:
    """Yield a fault per pattern without a match: a typo would silently train at another rank."""
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(parts.lora, key):
            if specs and not any(matches(pattern, spec.name) for spec in specs):
                message = f"{pattern!r} matches none of the adapters that targets makes"
                yield fault(
                    parts, "G2-202", f"lora.{key}", message, "lora.targets", compared=NETWORK
                )


def _wrong(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        return f"{pattern!r}: {error}"
    return ""


def _thirds(specs: list[LoRASpec]) -> dict[str, list[LoRASpec]]:
    """Return the adapters of a q, k or v slice, by module."""
    by_module: dict[str, list[LoRASpec]] = {}
    for spec in specs:
        if spec.third:
            by_module.setdefault(spec.module, []).append(spec)
    return by_module


def faults_of_base(parts: Parts, info: WeightsInfo | None) -> Iterator[Fault]:
    """Yield faults of weights that the files of an adapter can't name as their base."""
    if info is None:
        if not parts.model.has_file and parts.model.weights != "auto":
            message = "adapters need weights to be trained on, these are new at random"
            yield fault(parts, "G2-107", "model.weights", message, "lora.targets")
        elif parts.task and parts.task.from_scratch and not parts.model.has_file:
            message = "adapters need weights to be trained on; finetune takes them"
            yield fault(parts, "G2-107", "task.kind", message, "lora.targets", compared=("model",))
    elif info.adapter:
        message = "these weights are an adapter themselves; convert --merge makes them a base"
        yield fault(parts, "G2-312", "model.weights", message, compared=("model",))
    elif info.new:
        message = "adapters can't name a base that lacks parameters (allow_missing)"
        yield fault(parts, "G2-312", "model.weights", message, compared=("model",))
