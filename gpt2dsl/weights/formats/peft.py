"""Reader of PEFT's LoRA adapters: adapter_config.json and adapter_model.safetensors.

Source: peft 0.21, ``tuners/lora``. For GPT-2's Conv1D modules A is ``[r, in]`` and B ``[out, r]``.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data.documents import read_json
from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import HEAD, WTE, param_specs
from gpt2dsl.schema import adapter_config
from gpt2dsl.schema.fate import fates, refuse
from gpt2dsl.weights.files.lazy_tensor import LazyTensor
from gpt2dsl.weights.formats import peft_targets
from gpt2dsl.weights.formats.adapter import Adapter, Beginning, Origin, ReplacedRows, StoredLoRA
from gpt2dsl.weights.formats.peft_targets import Base, Kind, Targets

PREFIX, BODY = "base_model.model.", "transformer."
_PART = re.compile(
    r"(?P<module>.+)\.(?:lora_(?P<half>[AB])(?:\.default)?\.(?P<what>weight|bias)"
    r"|lora_embedding_(?P<table>[AB])(?:\.default)?"
    r"|(?P<magnitude>lora_magnitude_vector)(?:\.default)?(?:\.weight)?)"
)
_ROWS = re.compile(r"(.+)\.token_adapter\.trainable_tokens_delta")
_OF_TRAINING = re.compile(r".+\.(lora_velora_embed|lora_monteclora_sampler\..+)")
"""Tensors used only in training."""

_OF_BASE: Mapping[str, Beginning] = {"pissa": "pissa", "olora": "olora"}
"""Initialisations that change the base."""

_RANDOM = (False, "orthogonal")
"""Initialisations with which PEFT would give a missing adapter random values."""


@attrs.define
class _Parts:
    """The tensors of a file, grouped by kind; modules are named as in the file."""

    low_rank: dict[str, dict[str, LazyTensor]] = attrs.field(factory=dict)
    tables: set[str] = attrs.field(factory=set)
    rows: dict[str, LazyTensor] = attrs.field(factory=dict)
    replaced: dict[str, LazyTensor] = attrs.field(factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, LazyTensor]) -> _Parts:
        """Group the tensors of a file."""
        parts = cls()
        for name, tensor in stored.items():
            inner = name.removeprefix(PREFIX)
            if match := _PART.fullmatch(inner):
                key = match["half"] or match["table"] or "magnitude"
                key = "bias" if match["what"] == "bias" else key
                parts.low_rank.setdefault(match["module"], {})[key] = tensor
                if match["table"]:
                    parts.tables.add(match["module"])
            elif match := _ROWS.fullmatch(inner):
                parts.rows[match[1]] = tensor
            elif ".original_module." not in inner and not _OF_TRAINING.fullmatch(inner):
                parts.replaced[inner] = tensor
        for inner in [
            candidate for candidate in parts.replaced if ".modules_to_save." in candidate
        ]:
            tensor = parts.replaced.pop(inner)
            parts.replaced.setdefault(inner.replace(".modules_to_save.", "."), tensor)
        return parts

    def names(self) -> list[str]:
        """Return the names of all modules and tensors."""
        return [*self.low_rank, *self.rows, *self.replaced]

    def base(self, config: Mapping[str, Any], layers: int | None) -> Base:
        """Return the network of the adapter; ``layers`` is None if the base is unknown."""
        blocks = [int(m[1]) for name in self.names() if (m := re.match(r".*?\bh\.(\d+)\.", name))]
        is_bare = any(name.startswith(("h.", "wte", "wpe", "ln_f")) for name in self.names())
        mapped = config.get("auto_mapping")
        base_class = mapped.get("base_model_class") if isinstance(mapped, dict) else ""
        is_classifier = (
            config.get("task_type") == "SEQ_CLS"
            or base_class == "GPT2ForSequenceClassification"
            or any(name.split(".")[0] == peft_targets.SCORE for name in self.names())
        )
        head = peft_targets.SCORE if is_classifier else peft_targets.HEAD
        return Base(
            layers=max(blocks, default=-1) + 1 if layers is None else layers,
            head="" if is_bare else head,
        )


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of an adapter_config.json.

    Raises:
        InputError: it is absent (G2-301), empty (G2-302) or damaged (G2-304).
        InputError: a key asks for an unsupported feature (G2-313).
    """
    config = read_json(path)
    refuse(fates(path, {"peft_type": None} | config, adapter_config.TABLE))
    return config


def adapter(
    config: dict[str, Any],
    path: Path,
    stored: Mapping[str, LazyTensor],
    geometry: GPT2Config | None = None,
) -> Adapter:
    """Return the adapter of a folder, from ``read_config`` and its tensors under PEFT's names.

    Raises:
        InputError: it contradicts the configuration, or half of it is missing (G2-311).
    """
    parts = _Parts.of(stored)
    base = parts.base(config, geometry.layers if geometry else None)
    targets = Targets(config, path)
    adapted, saved = targets.adapted(base), targets.saved(base)
    _compare(parts, adapted, config, path)
    modules = {
        _full_name(module, base): _low_rank(config, path, module, parts)
        for module in parts.low_rank
    }
    full = _full(parts, base, adapted, path)
    rows = _rows(parts, targets.tables(base), base, path)
    for module in saved:
        inside = f"{_full_name(module, base)}."
        if missing := [
            tensor_name
            for tensor_name in sorted(_network(base))
            if tensor_name.startswith(inside) and tensor_name not in full
        ]:
            raise InputError(
                "G2-311", path, f"modules_to_save: {missing[0]} is missing in the file"
            )
    if not (modules or full or rows):
        raise InputError("G2-311", path, "the adapter changes nothing: it has no lora_A and lora_B")
    untied: frozenset[str] = frozenset()
    if base.head == peft_targets.HEAD and (geometry is None or geometry.tied):
        untied = _own((*saved, *modules, *rows), rows)
        full = _untied(full, untied, {f"{module}.weight" for module in saved})
    name = config.get("base_model_name_or_path")
    dropout: Any = config.get("lora_dropout")
    return Adapter(
        modules=modules,
        base=name if isinstance(name, str) else "",
        full=full,
        rows={f"{_full_name(module, base)}.weight": part for module, part in rows.items()},
        own=untied,
        bare=not base.head,
        dropout=float(dropout) if _is_number(dropout) else 0.0,
        origin=Origin(folder=path.parent, config=config, tensors=stored),
    )


def _own(modules: Iterable[str], rows: Mapping[str, ReplacedRows]) -> frozenset[str]:
    """Return the names among wte and lm_head of which the adapter has its own copy.

    Replaced rows of the wte are the head's too, as PEFT ties them.
    """
    table = f"{BODY}wte"
    pair = {table: WTE, peft_targets.HEAD: HEAD}
    names = {pair[module] for module in modules if module in pair}
    return frozenset(names - ({WTE} if table in rows else set()))


def _untied(
    full: Mapping[str, LazyTensor], own: frozenset[str], saved: Collection[str]
) -> dict[str, LazyTensor]:
    """Return replaced tensors, with a new value of the tied table under both of its names."""
    shared = [full[name] for name in (WTE, HEAD) if name in full and name not in saved]
    result = dict(full)
    if shared and own:
        result |= {name: shared[0] for name in (WTE, HEAD) if name not in saved}
    elif shared:  # A head beside it is compared with the table later.
        result.setdefault(WTE, shared[0])
    return result


def _compare(
    parts: _Parts, adapted: Mapping[str, Kind], config: Mapping[str, Any], path: Path
) -> None:
    """Raise an error for adapters that PEFT would ignore, or initialise at random."""
    for module in parts.low_rank:
        kind = "table" if module in parts.tables else "linear"
        if adapted.get(module) != kind:
            message = (
                f"{module}: the file holds an adapter of it, but target_modules and the keys "
                f"beside it do not name it, and PEFT would pass it over"
            )
            raise InputError("G2-311", path, message)
    missing = [module for module in adapted if module not in parts.low_rank]
    start = config.get("init_lora_weights", True)
    if missing and start in _RANDOM:
        message = (
            f"{missing[0]}: target_modules names it, the file has no adapter of it, and with "
            f"init_lora_weights = {start!r} PEFT would make one at random"
        )
        raise InputError("G2-311", path, message)


def _full(
    parts: _Parts, base: Base, adapted: Mapping[str, Kind], path: Path
) -> dict[str, LazyTensor]:
    """Return the tensors replaced as a whole, by full name.

    Raises:
        InputError: PEFT would ignore one, or GPT-2 has no such tensor (G2-311).
    """
    full = {}
    for inner, tensor in parts.replaced.items():
        module, _, end = inner.rpartition(".")
        name = f"{module.removesuffix('.base_layer')}.{end}"
        is_wrapped = module.endswith(".base_layer")
        if _full_name(name, base) not in _network(base):
            raise InputError("G2-311", path, f"{name}: this is no tensor of GPT-2")
        if is_wrapped != (module.removesuffix(".base_layer") in adapted):
            which = "has no adapter" if is_wrapped else "has an adapter"
            message = f"{inner}: its module {which}, and PEFT would pass it over"
            raise InputError("G2-311", path, message)
        full[_full_name(name, base)] = tensor
    return full


def _rows(
    parts: _Parts, tables: Mapping[str, list[int]], base: Base, path: Path
) -> dict[str, ReplacedRows]:
    """Return the replaced rows, by the name of their module in the file."""
    table = f"{BODY}wte"
    named = dict(tables)
    if table in named and named.get(peft_targets.HEAD) == named[table]:
        del named[peft_targets.HEAD]  # PEFT ties the two.
    if named.keys() != parts.rows.keys():
        odd = min(named.keys() ^ parts.rows.keys())
        message = f"trainable_token_indices and the file do not agree on rows of {odd}"
        raise InputError("G2-311", path, message)
    if odd := next(
        (name for name in named if f"{_full_name(name, base)}.weight" not in _TABLES), ""
    ):
        raise InputError("G2-311", path, f"trainable_token_indices names {odd}, which is no table")
    return {
        module: ReplacedRows(indices=tuple(indices), values=parts.rows[module])
        for module, indices in named.items()
    }


_TABLES = (WTE, f"{BODY}wpe.weight", HEAD)


def _network(base: Base) -> set[str]:
    """Return the tensor names of a network with all heads."""
    smallest = GPT2Config(layers=base.layers, heads=1, hidden=1, positions=1, vocab=1, labels=1)
    return {tensor.name for tensor in param_specs(smallest)} | {HEAD}


def _full_name(module: str, base: Base) -> str:
    """Return a name with ``transformer.``, which adapters of GPT2Model alone lack."""
    return module if base.head else f"{BODY}{module}"


def _low_rank(config: dict[str, Any], path: Path, module: str, parts: _Parts) -> StoredLoRA:
    pair = parts.low_rank[module]
    if problem := _problem(config, module, pair):
        raise InputError("G2-311", path, f"{module}: {problem}")
    rank = pair["A"].shape[0]
    try:
        expected = peft_targets.by_pattern(config.get("rank_pattern"), module, config.get("r", 8))
        alpha = peft_targets.by_pattern(
            config.get("alpha_pattern"), module, config.get("lora_alpha", 8)
        )
    except (AttributeError, re.error) as error:
        message = f"rank_pattern or alpha_pattern is no pattern: {error}"
        raise InputError("G2-311", path, message) from error
    if rank != expected:
        message = f"{module}: its rank is {rank}, the configuration says {expected}"
        raise InputError("G2-311", path, message)
    if not _is_number(alpha):
        raise InputError("G2-311", path, f"lora_alpha is {alpha!r}, a number is expected")
    return StoredLoRA(
        a=pair["A"],
        b=pair["B"],
        alpha=float(alpha),
        scale=alpha / (math.sqrt(rank) if config.get("use_rslora") else rank),
        magnitude=pair.get("magnitude"),
        bias=pair.get("bias"),
        beginning=_beginning(config, path, module, parts),
    )


def _is_number(value: Any) -> bool:
    """Return whether a value is a number within the range of a float."""
    return type(value) in {int, float} and abs(value) <= sys.float_info.max


def _problem(config: Mapping[str, Any], module: str, pair: Mapping[str, LazyTensor]) -> str:
    """Return the fault in the tensors of one module; "" if there is none."""
    if not {"A", "B"} <= pair.keys():
        return "half of its adapter is missing"
    a, b = pair["A"], pair["B"]
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        return f"A is {list(a.shape)} and B {list(b.shape)}, not [r, in] and [out, r]"
    widths = {"c_attn": 3 * a.shape[1], "attn.c_proj": a.shape[1]}
    if any(module.endswith(end) and b.shape[0] != out for end, out in widths.items()):
        return f"from {a.shape[1]} to {b.shape[0]}, which no GPT-2 has"
    if odd := next((tensor for tensor in pair.values() if not tensor.readable), None):
        return f"{odd.kind} are no floats"
    return _disagreement(config, module, pair)


def _disagreement(config: Mapping[str, Any], module: str, pair: Mapping[str, LazyTensor]) -> str:
    """Return a contradiction between configuration and tensors of one module; "" if none."""
    if bool(config.get("use_dora")) != ("magnitude" in pair):
        there = "the file has one" if "magnitude" in pair else "the file has none"
        return f"use_dora is {config.get('use_dora')!r}, but of a magnitude {there}"
    if "bias" in pair and not config.get("lora_bias"):
        return f"lora_bias is {config.get('lora_bias')!r}, but of a bias the file has one"
    if "bias" in pair and module == peft_targets.HEAD:
        return "lora_bias adds a bias to the head, which has none"
    return ""


def _beginning(config: Mapping[str, Any], path: Path, module: str, parts: _Parts) -> Beginning:
    """Return the adapter's initialisation if PEFT changes the base when loading it; else ""."""
    start = _OF_BASE.get(str(config.get("init_lora_weights")).lower(), "")
    # PEFT leaves tables unchanged, and a base weight in the file is already reduced.
    if module in parts.tables or f"{module}.base_layer.weight" in parts.replaced:
        return ""
    if start and module == peft_targets.HEAD:
        message = f"{module}: {start} changes the word table with it, which the file lacks"
        raise InputError("G2-311", path, message)
    return start
