"""PEFT's matching of the module names in an adapter_config.json to GPT-2's modules.

Source: peft 0.21, ``tuners/tuners_utils.py`` and ``utils/other.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from gpt2dsl.errors import InputError

Kind = Literal["linear", "table", "other"]
"""PEFT's kind of a module: linear or embedding table; "other" can't be adapted."""

HEAD, SCORE = "lm_head", "score"
_BLOCK: dict[str, Kind] = {
    "": "other", "ln_1": "other", "attn": "other", "attn.c_attn": "linear",
    "attn.c_proj": "linear", "attn.attn_dropout": "other", "attn.resid_dropout": "other",
    "ln_2": "other", "mlp": "other", "mlp.c_fc": "linear", "mlp.c_proj": "linear",
    "mlp.act": "other", "mlp.dropout": "other",
}  # fmt: skip
_DEFAULT = ("c_attn",)
"""PEFT's default target_modules for GPT-2."""


@attrs.frozen(kw_only=True)
class Base:
    """The network that an adapter was trained on; GPT2Model alone has no head."""

    layers: int
    head: str

    def modules(self) -> Iterator[tuple[str, Kind]]:
        """Yield the name and the kind of every module, in transformers' order."""
        body = "transformer." if self.head else ""
        if body:
            yield "transformer", "other"
        yield f"{body}wte", "table"
        yield f"{body}wpe", "table"
        yield f"{body}drop", "other"
        yield f"{body}h", "other"
        for layer in range(self.layers):
            for name, kind in _BLOCK.items():
                yield f"{body}h.{layer}.{name}".removesuffix("."), kind
        yield f"{body}ln_f", "other"
        if self.head:
            yield self.head, "linear"


@attrs.frozen
class Targets:
    """The keys of an adapter_config.json that name modules."""

    config: Mapping[str, Any]
    path: Path

    def adapted(self, base: Base) -> dict[str, Kind]:
        """Return the modules that have an adapter.

        Raises:
            InputError: PEFT can't adapt one of them (G2-311).
        """
        try:
            names = {name: kind for name, kind in base.modules() if self._adapts(name, kind)}
        except (re.error, TypeError, AttributeError) as error:
            raise self._refused(f"target_modules and its like are no patterns: {error}") from error
        if wrong := [name for name, kind in names.items() if kind == "other"]:
            raise self._refused(f"target_modules names {wrong[0]}, which PEFT can't adapt")
        return names

    def saved(self, base: Base) -> list[str]:
        """Return the modules of modules_to_save.

        Raises:
            InputError: one of them contains another (G2-311).
        """
        ends = self.config.get("modules_to_save") or ()
        if not all(isinstance(end, str) for end in ends):
            raise self._refused("modules_to_save are no names of modules")
        names = [name for name, _ in base.modules() if any(name.endswith(end) for end in ends)]
        for name in names:
            if inner := next((other for other in names if other.startswith(f"{name}.")), ""):
                raise self._refused(f"modules_to_save names {name} and {inner}, which is in it")
        return names

    def tables(self, base: Base) -> dict[str, list[int]]:
        """Return each module of trainable_token_indices → indices of its rows.

        Raises:
            InputError: the key is malformed or names no module (G2-311).
        """
        rows = self.config.get("trainable_token_indices")
        if rows is None:
            return {}
        by_end = rows if isinstance(rows, dict) else {"wte": rows}
        names: dict[str, list[int]] = {}
        for end, indices in by_end.items():
            if not isinstance(indices, list) or not all(type(i) is int for i in indices):
                raise self._refused("trainable_token_indices are no lists of whole numbers")
            matching = [name for name, _ in base.modules() if name.endswith(end)]
            if not matching:
                raise self._refused(f"trainable_token_indices names {end}, which is no module")
            names |= dict.fromkeys(matching, indices)
        return names

    def _adapts(self, name: str, kind: Kind) -> bool:
        if self._excluded(name):
            return False
        targets = self.config.get("target_modules")
        if isinstance(targets, str) and targets.lower() == "all-linear":
            is_head = name == HEAD or (name == SCORE and self.config.get("task_type") == "SEQ_CLS")
            return kind == "linear" and not is_head
        if isinstance(targets, str):
            return bool(re.fullmatch(targets, name))
        ends = _DEFAULT if targets is None else targets
        if name in ends:  # An exact match ignores the keys of layers.
            return True
        return any(name.endswith(f".{end}") for end in ends) and self._in_layers(name)

    def _excluded(self, name: str) -> bool:
        excluded = self.config.get("exclude_modules")
        if isinstance(excluded, str) and excluded:
            if re.fullmatch(excluded, name):
                return True
        elif excluded and (name in excluded or any(name.endswith(f".{end}") for end in excluded)):
            return True
        saved = self.config.get("modules_to_save") or ()
        return any(re.match(rf"(^|.*\.){end}($|\..*)", name) for end in saved)

    def _in_layers(self, name: str) -> bool:
        layers = self.config.get("layers_to_transform")
        if layers is None or layers == []:
            return True
        patterns = self.config.get("layers_pattern") or ()
        listed = [patterns] if isinstance(patterns, str) else patterns
        regexes = [rf"(?:^|.*?\.){regex}\.(\d+)\." for regex in listed] or [r".*?\.[^.]*\.(\d+)\."]
        match = next((matched for regex in regexes if (matched := re.match(regex, name))), None)
        if not match:
            return False
        return int(match[1]) in ([layers] if isinstance(layers, int) else layers)

    def _refused(self, message: str) -> InputError:
        return InputError("G2-311", self.path, message)


def by_pattern(patterns: Any, module: str, otherwise: Any) -> Any:
    """Return the value of the first regex that matches the end of a module's name."""
    for key, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return otherwise
