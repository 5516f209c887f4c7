"""Writer of PEFT's adapter folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt2dsl.layout.params import SCORE
from gpt2dsl.schema.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from gpt2dsl.weights.files import tensorfile
from gpt2dsl.weights.files.lazy_tensor import LazyTensor
from gpt2dsl.weights.formats.adapter import Adapter
from gpt2dsl.weights.formats.peft import BODY, PREFIX


def write(
    folder: Path,
    adapter: Adapter,
    prepared: Callable[[dict[str, LazyTensor]], dict[str, LazyTensor]] = lambda tensors: tensors,
) -> dict[str, str]:
    """Write a folder that PEFT and ``peft.adapter`` read; PEFT's own files are kept unchanged.

    Only the base is updated, as the base of a copied project is another than its files name. Unless
    the adapter came from PEFT, each scale is written as alpha / r. ``prepared`` transforms the
    tensors.

    Returns:
        File → checksum of the file with tensors.
    """
    config = dict(adapter.origin.config) if adapter.origin else to_config(adapter)
    if adapter.base:
        config["base_model_name_or_path"] = adapter.base
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    named = dict(adapter.origin.tensors) if adapter.origin else _named(adapter)
    return {ADAPTER_WEIGHTS: tensorfile.write(folder / ADAPTER_WEIGHTS, prepared(named))}


def _named(adapter: Adapter) -> dict[str, LazyTensor]:
    """Return low-rank updates and replaced tensors under PEFT's names."""
    named: dict[str, LazyTensor] = {}
    for module, part in adapter.modules.items():
        name = module.removeprefix(BODY) if adapter.bare else module
        named[f"{PREFIX}{name}.lora_A.weight"] = part.a
        named[f"{PREFIX}{name}.lora_B.weight"] = part.b
    return named | {f"{PREFIX}{name}": tensor for name, tensor in adapter.full.items()}


def to_config(adapter: Adapter) -> dict[str, Any]:
    """Return adapter_config.json, with patterns for modules that differ from the first."""
    first = next(iter(adapter.modules.values()))
    alpha = first.scale * first.rank
    ranks, alphas = {}, {}
    for module, part in adapter.modules.items():
        key = module.removeprefix("transformer.")
        if part.rank != first.rank:
            ranks[key] = part.rank
        if (module_alpha := part.scale * part.rank) != alpha:
            alphas[key] = module_alpha
    return {
        "base_model_name_or_path": adapter.base or None,
        "peft_type": "LORA",
        "task_type": _task(adapter),
        "r": first.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": _targets(adapter),
        "fan_in_fan_out": True,
        "bias": "none",
        "use_rslora": False,
        "inference_mode": True,
        "modules_to_save": sorted({name.rpartition(".")[0] for name in adapter.full}) or None,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
    }


def _task(adapter: Adapter) -> str:
    """Return PEFT's task type: a classifier, a language model, or GPT2Model alone."""
    if adapter.bare:
        return "FEATURE_EXTRACTION"
    return "SEQ_CLS" if SCORE in adapter.full else "CAUSAL_LM"


def _targets(adapter: Adapter) -> list[str]:
    """Return PEFT's target_modules, without block numbers if all blocks have the same."""
    blocks_of: dict[str, set[str]] = {}
    for module in adapter.modules:
        _, _, block, suffix = module.split(".", 3)
        blocks_of.setdefault(suffix, set()).add(block)
    count = max(map(len, blocks_of.values()))
    is_uniform = all(len(blocks) == count for blocks in blocks_of.values())
    if is_uniform and sorted(map(int, next(iter(blocks_of.values())))) == list(range(count)):
        return sorted(blocks_of)
    return sorted(module.removeprefix("transformer.") for module in adapter.modules)
