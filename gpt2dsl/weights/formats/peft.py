"""PEFT's LoRA adapters: a folder with adapter_config.json and adapter_model.safetensors.

Source: peft 0.21, ``tuners/lora``. Of GPT-2's Conv1D modules A is ``[r, in]`` and B ``[out, r]``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gpt2dsl.errors import InputError
from gpt2dsl.layout.tensors import HEAD, SCORE, TABLE
from gpt2dsl.weights.files import tensorfile
from gpt2dsl.weights.files.stored import Stored
from gpt2dsl.weights.formats.adapter import Adapter, LowRank
from gpt2dsl.weights.place import ADAPTER_CONFIG, ADAPTER_WEIGHTS

_PREFIX = "base_model.model."
_BODY = "transformer."
_HALF = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
_MODULE = re.compile(r"transformer\.h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)")

_WHOLE = re.compile(r"score\.weight|transformer\.(wpe|ln_f|h\.\d+\.(ln_[12]|attn|mlp))\b.*")

_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Ways to begin an adapter that leave its base as it is."""

_REFUSED = {
    "use_dora": "DoRA",
    "lora_bias": "a bias in the adapter",
    "layer_replication": "replicated layers",
    "use_qalora": "QALoRA",
    "trainable_token_indices": "trainable tokens",
    "alora_invocation_tokens": "activated LoRA",
}
"""Options of PEFT that make another adapter, where they are set."""


def adapter(config: dict[str, Any], path: Path, found: Mapping[str, Stored]) -> Adapter:
    """The adapter of a folder.

    Args:
        config: the content of adapter_config.json.
        path: its file, for messages.
        found: the tensors, under PEFT's names.

    Raises:
        InputError: it is another kind of adapter, or half of it is missing (G2-306).
    """
    _refuse_others(config, path)
    halves: dict[str, dict[str, Stored]] = {}
    full = {}
    for name, tensor in found.items():
        inner = name.removeprefix(_PREFIX)
        if match := _HALF.fullmatch(inner):
            halves.setdefault(match[1], {})[match[2]] = tensor
        else:
            full[_full_name(inner.replace(".modules_to_save", ""))] = tensor
    _refuse_strays(full, path)
    modules = {}
    for module, pair in halves.items():
        if not _MODULE.fullmatch(_full_name(module)):
            raise InputError("G2-306", path, f"{module}: this is no linear module of GPT-2")
        if len(pair) < 2:
            raise InputError("G2-306", path, f"{module}: half of its adapter is missing")
        modules[_full_name(module)] = _low_rank(config, path, module, pair)
    if not modules:
        raise InputError("G2-306", path, "the adapter changes nothing: it has no lora_A and lora_B")
    base = config.get("base_model_name_or_path")
    return Adapter(
        modules=modules,
        base=base if isinstance(base, str) else "",
        full=full,
        bare=not next(iter(halves)).startswith(_BODY),
    )


def _refuse_others(config: dict[str, Any], path: Path) -> None:
    if config.get("peft_type") != "LORA":
        raise InputError("G2-306", path, f"peft_type is {config.get('peft_type')!r}, not 'LORA'")
    for key, words in _REFUSED.items():
        if config.get(key):
            raise InputError("G2-306", path, f"{key}: {words} is not built here")
    if config.get("bias", "none") != "none":
        raise InputError("G2-306", path, f"bias is {config['bias']!r}; only 'none' is read here")
    if (start := config.get("init_lora_weights", True)) not in _STARTS:
        message = f"init_lora_weights is {start!r}: it changes the base, which is not done here"
        raise InputError("G2-306", path, message)


def _refuse_strays(full: Mapping[str, Stored], path: Path) -> None:
    """Tensors that an adapter holds whole must be the network's, and not the tied table."""
    for name in full:
        if name in (TABLE, HEAD):
            message = f"{name} is held whole; it is one with the head here, and not in PEFT"
            raise InputError("G2-306", path, message)
        if not _WHOLE.fullmatch(name):
            raise InputError("G2-306", path, f"{name}: this is no tensor of GPT-2")


def _full_name(module: str) -> str:
    """An adapter of GPT2Model alone says nothing of ``transformer``."""
    outside = (_BODY, SCORE, HEAD)
    return module if module.startswith(outside) else f"{_BODY}{module}"


def _low_rank(
    config: dict[str, Any], path: Path, module: str, pair: Mapping[str, Stored]
) -> LowRank:
    a, b = pair["A"], pair["B"]
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        message = f"{module}: A is {list(a.shape)} and B {list(b.shape)}, not [r, in] and [out, r]"
        raise InputError("G2-306", path, message)
    widths = {"c_attn": 3 * a.shape[1], "attn.c_proj": a.shape[1]}
    if any(module.endswith(end) and b.shape[0] != out for end, out in widths.items()):
        message = f"{module}: from {a.shape[1]} to {b.shape[0]}, which no GPT-2 has"
        raise InputError("G2-306", path, message)
    if not (a.readable and b.readable):
        raise InputError("G2-306", path, f"{module}: {a.kind} and {b.kind} are no floats")
    rank = a.shape[0]
    try:
        said = _of_pattern(config.get("rank_pattern"), module, config.get("r"))
        alpha = _of_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    except (AttributeError, re.error) as error:
        message = f"rank_pattern or alpha_pattern is no pattern: {error}"
        raise InputError("G2-306", path, message) from error
    if rank != said:
        raise InputError(
            "G2-306", path, f"{module}: its rank is {rank}, the configuration says {said}"
        )
    if type(alpha) not in {int, float} or not math.isfinite(alpha):
        raise InputError("G2-306", path, f"lora_alpha is {alpha!r}, a number is expected")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return LowRank(a=a, b=b, alpha=float(alpha), scale=scale)


def _of_pattern(pattern: Any, module: str, otherwise: Any) -> Any:
    """What PEFT's patterns say of a module: the first key that its name ends in, a regex."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return otherwise


def write(
    folder: Path,
    adapter: Adapter,
    prepared: Callable[[dict[str, Stored]], dict[str, Stored]] = lambda tensors: tensors,
) -> dict[str, str]:
    """Writes a folder that PEFT and :func:`adapter` read.

    Args:
        folder: as ``store.writing`` gives it.
        adapter: the adapter; each module's scale is written as alpha / r.
        prepared: what is done to the tensors before they are written.

    Returns:
        File → checksum of the one that holds tensors.

    Raises:
        OSError: the disk is full or can't be written.
    """
    config = {"base_model_name_or_path": adapter.base or None} | to_config(adapter)
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    tensors: dict[str, Stored] = {}
    for module, part in adapter.modules.items():
        name = module.removeprefix(_BODY) if adapter.bare else module
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = part.a
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = part.b
    tensors |= {f"{_PREFIX}{name}": tensor for name, tensor in adapter.full.items()}
    return {ADAPTER_WEIGHTS: tensorfile.write(folder / ADAPTER_WEIGHTS, prepared(tensors))}


def to_config(adapter: Adapter) -> dict[str, Any]:
    """adapter_config.json, with a pattern for each module that differs from the first."""
    first = next(iter(adapter.modules.values()))
    alpha = first.scale * first.rank
    ranks, alphas = {}, {}
    for module, part in adapter.modules.items():
        key = module.removeprefix("transformer.")
        if part.rank != first.rank:
            ranks[key] = part.rank
        if (own := part.scale * part.rank) != alpha:
            alphas[key] = own
    return {
        "peft_type": "LORA",
        "task_type": _task(adapter),
        "r": first.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
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
    """What PEFT makes of the base: a classifier, a language model, or GPT2Model alone."""
    if adapter.bare:
        return "FEATURE_EXTRACTION"
    return "SEQ_CLS" if SCORE in adapter.full else "CAUSAL_LM"


def _targets(adapter: Adapter) -> list[str]:
    """Names that PEFT finds the modules by: without the block where all blocks have them."""
    inner: dict[str, set[str]] = {}
    for module in adapter.modules:
        _, _, block, rest = module.split(".", 3)
        inner.setdefault(rest, set()).add(block)
    most = max(map(len, inner.values()))
    whole = all(len(blocks) == most for blocks in inner.values())
    if whole and sorted(map(int, next(iter(inner.values())))) == list(range(most)):
        return sorted(inner)
    return sorted(module.removeprefix("transformer.") for module in adapter.modules)
