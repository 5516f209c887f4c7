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

import attrs

from gpt2dsl.errors import InputError
from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.layout.tensors import HEAD, SCORE, TABLE, tensors
from gpt2dsl.schema import adapter_config
from gpt2dsl.schema.fate import fates, refuse
from gpt2dsl.weights.files import tensorfile
from gpt2dsl.weights.files.stored import Stored
from gpt2dsl.weights.formats import peft_targets
from gpt2dsl.weights.formats.adapter import Adapter, Beginning, LowRank, Origin, Rows
from gpt2dsl.weights.formats.peft_targets import Base, Kind, Targets
from gpt2dsl.weights.place import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_json

_PREFIX = "base_model.model."
_BODY = "transformer."
_PART = re.compile(
    r"(?P<module>.+)\.(?:lora_(?P<half>[AB])(?:\.default)?\.(?P<what>weight|bias)"
    r"|lora_embedding_(?P<table>[AB])(?:\.default)?"
    r"|(?P<magnitude>lora_magnitude_vector)(?:\.default)?(?:\.weight)?)"
)
_ROWS = re.compile(r"(.+)\.token_adapter\.trainable_tokens_delta")
_OF_TRAINING = re.compile(r".+\.(lora_velora_embed|lora_monteclora_sampler\..+)")
"""Tensors that act in training alone."""

_OF_BASE: Mapping[str, Beginning] = {"pissa": "pissa", "olora": "olora"}
"""Beginnings that changed the base."""

_RANDOM = (False, "orthogonal")
"""Beginnings after which an adapter that the file lacks would change its module at random."""


@attrs.define
class _Parts:
    """The tensors of a file by what they are; modules under their names in the file."""

    low_rank: dict[str, dict[str, Stored]] = attrs.field(factory=dict)
    tables: set[str] = attrs.field(factory=set)
    rows: dict[str, Stored] = attrs.field(factory=dict)
    whole: dict[str, Stored] = attrs.field(factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, Stored]) -> _Parts:
        """Return a file's tensors sorted."""
        parts = cls()
        for name, tensor in stored.items():
            inner = name.removeprefix(_PREFIX)
            if match := _PART.fullmatch(inner):
                key = match["half"] or match["table"] or "magnitude"
                key = "bias" if match["what"] == "bias" else key
                parts.low_rank.setdefault(match["module"], {})[key] = tensor
                if match["table"]:
                    parts.tables.add(match["module"])
            elif match := _ROWS.fullmatch(inner):
                parts.rows[match[1]] = tensor
            elif ".original_module." not in inner and not _OF_TRAINING.fullmatch(inner):
                parts.whole[inner] = tensor
        for inner in [one for one in parts.whole if ".modules_to_save." in one]:
            tensor = parts.whole.pop(inner)
            parts.whole.setdefault(inner.replace(".modules_to_save.", "."), tensor)
        return parts

    def names(self) -> list[str]:
        """Return the names of modules and tensors."""
        return [*self.low_rank, *self.rows, *self.whole]

    def base(self, config: Mapping[str, Any], layers: int | None) -> Base:
        """Return the network that the adapter was made for.

        Args:
            config: the content of adapter_config.json.
            layers: the base's blocks; None where the base is not known.
        """
        blocks = [int(m[1]) for name in self.names() if (m := re.match(r".*?\bh\.(\d+)\.", name))]
        is_bare = any(name.startswith(("h.", "wte", "wpe", "ln_f")) for name in self.names())
        mapped = config.get("auto_mapping")
        made = mapped.get("base_model_class") if isinstance(mapped, dict) else ""
        is_classifier = (
            config.get("task_type") == "SEQ_CLS"
            or made == "GPT2ForSequenceClassification"
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
        SpecError: a key asks for what is not built here (G2-306).
    """
    config = read_json(path)
    refuse(fates(path, {"peft_type": None} | config, adapter_config.TABLE))
    return config


def adapter(
    config: dict[str, Any], path: Path, stored: Mapping[str, Stored], layers: int | None = None
) -> Adapter:
    """Return the adapter of a folder.

    Args:
        config: the content of adapter_config.json, as ``read_config`` gives it.
        path: its file, for messages.
        stored: the tensors, under PEFT's names.
        layers: the base's blocks; None where the base is not known.

    Raises:
        InputError: it is not what the configuration says, or half of it is missing (G2-306).
    """
    parts = _Parts.of(stored)
    base = parts.base(config, layers)
    targets = Targets(config, path)
    adapted, saved = targets.adapted(base), targets.saved(base)
    _compare(parts, adapted, config, path)
    modules = {
        _full_name(module, base): _low_rank(config, path, module, pair, module in parts.tables)
        for module, pair in parts.low_rank.items()
    }
    full = _full(parts, base, adapted, path)
    rows = _rows(parts, targets.tables(base), base, path)
    for module in saved:
        inside = f"{_full_name(module, base)}."
        if lost := [one for one in _network(base) if one.startswith(inside) and one not in full]:
            raise InputError("G2-306", path, f"modules_to_save: {lost[0]} is missing in the file")
    if not (modules or full or rows):
        raise InputError("G2-306", path, "the adapter changes nothing: it has no lora_A and lora_B")
    own = _own(base, {_full_name(one, base) for one in (*saved, *parts.low_rank, *rows)}, rows)
    name = config.get("base_model_name_or_path")
    dropout = config.get("lora_dropout")
    return Adapter(
        modules=modules,
        base=name if isinstance(name, str) else "",
        full=full,
        rows={f"{_full_name(module, base)}.weight": part for module, part in rows.items()},
        own=own,
        bare=not base.head,
        dropout=float(dropout) if isinstance(dropout, int | float) else 0.0,
        origin=Origin(folder=path.parent, config=config, tensors=stored),
    )


def _own(base: Base, modules: set[str], rows: Mapping[str, Rows]) -> frozenset[str]:
    """Return the word table and the head, as far as the adapter has one for itself.

    Rows of the word table are the head's too where PEFT finds the two tied.
    """
    if base.head != peft_targets.HEAD:
        return frozenset()
    tied = {f"{_BODY}wte"} if f"{_BODY}wte" in rows else set()
    pair = {f"{_BODY}wte": TABLE, peft_targets.HEAD: HEAD}
    return frozenset(name for module, name in pair.items() if module in modules - tied)


def _compare(
    parts: _Parts, adapted: Mapping[str, Kind], config: Mapping[str, Any], path: Path
) -> None:
    """Refuse adapters that PEFT would pass over, and those that it would make up."""
    for module in parts.low_rank:
        kind = "table" if module in parts.tables else "linear"
        if adapted.get(module) != kind:
            message = (
                f"{module}: the file holds an adapter of it, but target_modules and the keys "
                f"beside it do not name it, and PEFT would pass it over"
            )
            raise InputError("G2-306", path, message)
    missing = [module for module in adapted if module not in parts.low_rank]
    start = config.get("init_lora_weights", True)
    if missing and start in _RANDOM:
        message = (
            f"{missing[0]}: target_modules names it, the file has no adapter of it, and with "
            f"init_lora_weights = {start!r} PEFT would make one at random"
        )
        raise InputError("G2-306", path, message)


def _full(parts: _Parts, base: Base, adapted: Mapping[str, Kind], path: Path) -> dict[str, Stored]:
    """Return the tensors that are held whole, by their full names.

    Raises:
        InputError: PEFT would pass one over, or the network has none such (G2-306).
    """
    full = {}
    for inner, tensor in parts.whole.items():
        module, _, end = inner.rpartition(".")
        name = f"{module.removesuffix('.base_layer')}.{end}"
        is_wrapped = module.endswith(".base_layer")
        if _full_name(name, base) not in _network(base):
            raise InputError("G2-306", path, f"{name}: this is no tensor of GPT-2")
        if is_wrapped != (module.removesuffix(".base_layer") in adapted):
            which = "has no adapter" if is_wrapped else "has an adapter"
            message = f"{inner}: its module {which}, and PEFT would pass it over"
            raise InputError("G2-306", path, message)
        full[_full_name(name, base)] = tensor
    return full


def _rows(
    parts: _Parts, tables: Mapping[str, list[int]], base: Base, path: Path
) -> dict[str, Rows]:
    """Return the rows that are held, by the name of their module in the file."""
    table = f"{_BODY}wte"
    named = dict(tables)
    if table in named and named.get(peft_targets.HEAD) == named[table]:
        del named[peft_targets.HEAD]  # PEFT ties the two.
    if named.keys() != parts.rows.keys():
        odd = min(named.keys() ^ parts.rows.keys())
        message = f"trainable_token_indices and the file do not agree on rows of {odd}"
        raise InputError("G2-306", path, message)
    if odd := next((one for one in named if f"{_full_name(one, base)}.weight" not in _TABLES), ""):
        raise InputError("G2-306", path, f"trainable_token_indices names {odd}, which is no table")
    return {
        module: Rows(indices=tuple(indices), values=parts.rows[module])
        for module, indices in named.items()
    }


_TABLES = (TABLE, f"{_BODY}wpe.weight", HEAD)


def _network(base: Base) -> set[str]:
    """Return the names of the tensors of a network with any head."""
    smallest = Geometry(layers=base.layers, heads=1, hidden=1, positions=1, vocab=1, labels=1)
    return {tensor.name for tensor in tensors(smallest)} | {HEAD}


def _full_name(module: str, base: Base) -> str:
    """Return a name with ``transformer.``, which an adapter of GPT2Model alone leaves out."""
    return module if base.head else f"{_BODY}{module}"


def _low_rank(
    config: dict[str, Any], path: Path, module: str, pair: Mapping[str, Stored], is_table: bool
) -> LowRank:
    if not {"A", "B"} <= pair.keys():
        raise InputError("G2-306", path, f"{module}: half of its adapter is missing")
    a, b = pair["A"], pair["B"]
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        message = f"{module}: A is {list(a.shape)} and B {list(b.shape)}, not [r, in] and [out, r]"
        raise InputError("G2-306", path, message)
    widths = {"c_attn": 3 * a.shape[1], "attn.c_proj": a.shape[1]}
    if any(module.endswith(end) and b.shape[0] != out for end, out in widths.items()):
        message = f"{module}: from {a.shape[1]} to {b.shape[0]}, which no GPT-2 has"
        raise InputError("G2-306", path, message)
    if odd := next((tensor for tensor in pair.values() if not tensor.readable), None):
        raise InputError("G2-306", path, f"{module}: {odd.kind} are no floats")
    for key, switch in {"magnitude": "use_dora", "bias": "lora_bias"}.items():
        if (key in pair) != bool(config.get(switch)) and (key in pair or key == "magnitude"):
            there = "the file has one" if key in pair else "the file has none"
            message = f"{module}: {switch} is {config.get(switch)!r}, but of a {key} {there}"
            raise InputError("G2-306", path, message)
    rank = a.shape[0]
    try:
        expected = peft_targets.by_pattern(config.get("rank_pattern"), module, config.get("r", 8))
        alpha = peft_targets.by_pattern(
            config.get("alpha_pattern"), module, config.get("lora_alpha", 8)
        )
    except (AttributeError, re.error) as error:
        message = f"rank_pattern or alpha_pattern is no pattern: {error}"
        raise InputError("G2-306", path, message) from error
    if rank != expected:
        message = f"{module}: its rank is {rank}, the configuration says {expected}"
        raise InputError("G2-306", path, message)
    if type(alpha) not in {int, float} or not math.isfinite(alpha):
        raise InputError("G2-306", path, f"lora_alpha is {alpha!r}, a number is expected")
    start = str(config.get("init_lora_weights")).lower()
    return LowRank(
        a=a,
        b=b,
        alpha=float(alpha),
        scale=alpha / (math.sqrt(rank) if config.get("use_rslora") else rank),
        magnitude=pair.get("magnitude"),
        bias=pair.get("bias"),
        # PEFT leaves tables as they are.
        beginning="" if is_table or start not in _OF_BASE else _OF_BASE[start],
    )


def write(
    folder: Path,
    adapter: Adapter,
    prepared: Callable[[dict[str, Stored]], dict[str, Stored]] = lambda tensors: tensors,
) -> dict[str, str]:
    """Write a folder that PEFT and :func:`adapter` read; what came from PEFT goes as it came.

    Args:
        folder: as ``store.writing`` gives it.
        adapter: the adapter; of one that PEFT did not write each scale is written as alpha / r.
        prepared: what is done to the tensors before they are written.

    Returns:
        File → checksum of the one that holds tensors.

    Raises:
        OSError: the disk is full or can't be written.
    """
    config = adapter.origin.config if adapter.origin else to_config(adapter)
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    named = dict(adapter.origin.tensors) if adapter.origin else _named(adapter)
    return {ADAPTER_WEIGHTS: tensorfile.write(folder / ADAPTER_WEIGHTS, prepared(named))}


def _named(adapter: Adapter) -> dict[str, Stored]:
    """Return plain low-rank adapters and whole tensors under PEFT's names."""
    named: dict[str, Stored] = {}
    for module, part in adapter.modules.items():
        name = module.removeprefix(_BODY) if adapter.bare else module
        named[f"{_PREFIX}{name}.lora_A.weight"] = part.a
        named[f"{_PREFIX}{name}.lora_B.weight"] = part.b
    return named | {f"{_PREFIX}{name}": tensor for name, tensor in adapter.full.items()}


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
