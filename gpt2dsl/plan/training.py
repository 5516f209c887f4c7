"""What a plan says and checks of training: the optimizer's groups, adapters, number formats."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2dsl.engine.lr_schedule import warmup_steps
from gpt2dsl.errors import Fault
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec, lora_specs, matches
from gpt2dsl.layout.params import decays, param_specs
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.checks import fault

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import Look


def trained_shapes(parts: Parts, geometry: GPT2Config) -> list[tuple[int, ...]]:
    """Of every tensor that training changes: all, or the adapters and the head of the classes."""
    if parts.lora is None:
        return [tensor.shape for tensor in param_specs(geometry)]
    added = lora_specs(geometry, parts.lora.settings())
    found: list[tuple[int, ...]] = [shape for one in added for shape in one.shapes.values()]
    return [*found, (geometry.labels, geometry.hidden)] if geometry.labels else found


def optimizer_words(parts: Parts, shapes: Sequence[tuple[int, ...]]) -> str:
    """Return the optimizer, with what decays of the tensors that are trained and what does not."""
    optim = parts.optim
    decayed = sum(map(decays, shapes))
    words = f"{optim.name}, lr {optim.lr:g}, {parts.schedule.kind}"
    if optim.name == "sgd":
        words += f", momentum {optim.momentum:g}"
    elif not optim.bias_correction:
        words += ", without bias correction"
    if optim.weight_decay:
        words += f"; decay {optim.weight_decay:g} of {decayed} matrices and tables"
        if rest := len(shapes) - decayed:
            words += f", none of {rest} biases and norms"
    return words


def precision_words(parts: Parts) -> str:
    """Return the number formats, where they are not float32."""
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
    """Return the adapters that are trained; "" where there are none."""
    if parts.lora is None or not parts.trains:
        return ""
    lora, found = parts.lora, lora_specs(geometry, parts.lora.settings())
    ranks = ", ".join(map(str, sorted({one.rank for one in found})))
    scales = ", ".join(f"{scale:g}" for scale in sorted({one.scale for one in found}))
    words = f"rank {ranks}, scale {scales}, on {len(found)} modules that match {lora.targets!r}"
    return f"{words}, dropout {lora.dropout:g}" if lora.dropout else words


def notes(parts: Parts, geometry: GPT2Config) -> Iterator[str]:
    """What a reader must know of training."""
    if not parts.trains:
        return
    if parts.lora:
        yield from _of_files(parts, geometry)


def notes_of_steps(parts: Parts, steps: int) -> Iterator[str]:
    """Yield what a reader must know once the number of steps is known; 0 where it is not."""
    share = parts.schedule.warmup
    if parts.trains and steps and share and not warmup_steps(parts.schedule, steps):
        yield f"schedule.warmup = {share:g} of {steps:,} steps is less than half a step: no warm-up"


def _of_files(parts: Parts, geometry: GPT2Config) -> Iterator[str]:
    """What becomes of the adapters in PEFT's files."""
    assert parts.lora is not None
    thirds = _thirds(lora_specs(geometry, parts.lora.settings()))
    if not thirds:
        return
    first = next(iter(thirds.values()))
    names = " and ".join(one.third for one in first)
    rank = sum(one.rank for one in first)
    yield (
        f"the adapters on {names} are saved as one of rank {rank} on c_attn, which PEFT knows only "
        "as a whole; a resume takes them apart again"
    )


def faults(parts: Parts, geometry: GPT2Config, looked: Look | None) -> list[Fault]:
    """What does not go together in training."""
    return [
        *_formats(parts),
        *_held_out(parts),
        *_adapters(parts, geometry),
        *(_base(parts, looked) if parts.lora and parts.trains else ()),
    ]


def _formats(parts: Parts) -> Iterator[Fault]:
    for key in ("params", "compute"):
        if getattr(parts.precision, key) == "bfloat16" and parts.runtime.device == "cpu":
            message = "MindSpore computes nothing in bfloat16 on cpu; ascend and gpu do"
            yield fault(parts, "G2-107", f"precision.{key}", message, "runtime.device")


def _held_out(parts: Parts) -> Iterator[Fault]:
    for key in ("best", "patience"):
        if not getattr(parts.train, key) or not parts.trains:
            continue
        if not getattr(parts.task, "eval_data", ""):
            yield fault(parts, "G2-107", f"train.{key}", "it needs task.eval_data")
        elif not parts.train.evaluate_every:
            yield fault(parts, "G2-107", f"train.{key}", "it needs train.evaluate_every")


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
    said = [(key, _wrong(pattern)) for key, listed in patterns.items() for pattern in listed]
    broken = [(key, error) for key, error in said if error]
    for key, error in broken:
        yield fault(parts, "G2-202", f"lora.{key}", f"expected a regex: {error}")
    if broken:
        return
    found = lora_specs(geometry, lora.settings())
    if not found:
        message = "it matches no module; c_attn, attn.c_proj, c_fc, mlp.c_proj, q, k, v are there"
        yield fault(parts, "G2-202", "lora.targets", message)
    yield from _unmatched(parts, found)
    for module, thirds in _thirds(found).items():
        if len({one.scale for one in thirds}) > 1:
            message = f"the thirds of {module} have different scales, which PEFT's files can't hold"
            yield fault(parts, "G2-202", "lora.rank_pattern", message, "lora.alpha_pattern")
            break


def _unmatched(parts: Parts, found: list[LoRASpec]) -> Iterator[Fault]:
    """Patterns that change no adapter: a typo would train at another rank without a word."""
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(parts.lora, key):
            if found and not any(matches(pattern, one.name) for one in found):
                message = f"{pattern!r} matches none of the adapters that targets makes"
                yield fault(parts, "G2-202", f"lora.{key}", message)


def _wrong(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        return f"{pattern!r}: {error}"
    return ""


def _thirds(found: list[LoRASpec]) -> dict[str, list[LoRASpec]]:
    """Return the adapters on thirds, by module."""
    by_module: dict[str, list[LoRASpec]] = {}
    for one in found:
        if one.third:
            by_module.setdefault(one.module, []).append(one)
    return by_module


def _base(parts: Parts, looked: Look | None) -> Iterator[Fault]:
    """Adapters belong to weights that their files can name."""
    if looked is None:
        if not parts.model.has_file and parts.model.weights != "auto":
            message = "adapters need weights to be trained on, these are new at random"
            yield fault(parts, "G2-107", "model.weights", message, "lora.targets")
        elif parts.task and parts.task.kind == "pretrain" and not parts.model.has_file:
            message = "adapters need weights to be trained on; finetune takes them"
            yield fault(parts, "G2-107", "task.kind", message, "lora.targets")
    elif looked.adapter:
        message = "these weights are an adapter themselves; convert --merge makes them a base"
        yield fault(parts, "G2-306", "model.weights", message)
    elif looked.new:
        message = "adapters can't name a base that lacks parameters (allow_missing)"
        yield fault(parts, "G2-306", "model.weights", message)
