"""LoRA adapters of a network: places and shapes.

The network, the files, a plan's parameters and a rank's memory are all derived from this table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import param_specs

THIRDS = ("q", "k", "v")
"""Slices of c_attn's output, in this order."""

MODULES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


@attrs.frozen(kw_only=True)
class LoRASpec:
    """LoRA adapter of a linear, or of c_attn's q, k or v slice: ``y += scale B A x``.

    Attributes:
        module: name of the adapted linear: ``transformer.h.0.attn.c_attn``.
        third: q, k or v for an adapter of one slice of c_attn, else "".
        layer: index of the block.
        inputs: input width; A is ``[rank, inputs]``.
        outputs: output width; B is ``[outputs, rank]``.
        rank: r.
        scale: alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA.
    """

    module: str
    third: str
    layer: int
    inputs: int
    outputs: int
    rank: int
    scale: float

    @property
    def name(self) -> str:
        """Name of the adapter: the module's, with the slice appended."""
        return f"{self.module}.{self.third}" if self.third else self.module

    @property
    def slot(self) -> int:
        """Index of the adapter's place within a block, the same in all networks."""
        if self.third:
            return len(MODULES) + THIRDS.index(self.third)
        return next(i for i, module in enumerate(MODULES) if self.module.endswith(module))

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Shapes of A and B, by name."""
        return {
            f"{self.name}.lora_A": (self.rank, self.inputs),
            f"{self.name}.lora_B": (self.outputs, self.rank),
        }

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.rank * (self.inputs + self.outputs)


@attrs.frozen(kw_only=True)
class LoRASettings:
    """LoRA settings of a network.

    Attributes:
        targets: regex on module names.
        r: rank.
        alpha: numerator of the scale.
        rslora: whether the scale is alpha / sqrt(r) (Kalajdzievski 2023).
        ranks: regex on module names → r; the first match wins.
        alphas: regex on module names → alpha; the first match wins.
    """

    targets: str
    r: int
    alpha: float
    rslora: bool = False
    ranks: Mapping[str, int] = attrs.field(factory=dict)
    alphas: Mapping[str, float] = attrs.field(factory=dict)


def lora_specs(config: GPT2Config, settings: LoRASettings) -> list[LoRASpec]:
    """Return every adapter of a network, in forward order.

    Patterns match a module's full name below ``transformer.``, e.g. ``h.0.attn.c_attn``, or its end
    after any dot. ``q``, ``k`` and ``v`` below ``c_attn`` are its slices; they are only considered
    if c_attn itself does not match.
    """
    return [
        _spec(settings, module, third, layer, (inputs, outputs))
        for module, layer, inputs, outputs in _linears(config)
        for third, outputs in _parts(settings.targets, module, outputs)
    ]


def _linears(config: GPT2Config) -> Iterator[tuple[str, int, int, int]]:
    """Yield module, block and widths of every linear of the blocks."""
    for tensor in param_specs(config):
        module = tensor.name.removesuffix(".weight")
        if tensor.name.endswith(".weight") and module.endswith(MODULES):
            yield module, tensor.layer, *tensor.shape  # type: ignore[misc]


def _parts(targets: str, module: str, outputs: int) -> list[tuple[str, int]]:
    """Return the adapted slices of a linear ("" for all of it) and their output widths."""
    if matches(targets, module):
        return [("", outputs)]
    if not module.endswith("c_attn"):
        return []
    thirds = (third for third in THIRDS if matches(targets, f"{module}.{third}"))
    return [(third, outputs // 3) for third in thirds]


def _spec(
    settings: LoRASettings, module: str, third: str, layer: int, widths: tuple[int, int]
) -> LoRASpec:
    name = f"{module}.{third}" if third else module
    rank = int(_first(settings.ranks, name, settings.r))
    alpha = float(_first(settings.alphas, name, settings.alpha))
    return LoRASpec(
        module=module,
        third=third,
        layer=layer,
        inputs=widths[0],
        outputs=widths[1],
        rank=rank,
        scale=alpha / (math.sqrt(rank) if settings.rslora else rank),
    )


def _first(patterns: Mapping[str, float], name: str, otherwise: float) -> float:
    return next((value for key, value in patterns.items() if matches(key, name)), otherwise)


def matches(pattern: str, name: str) -> bool:
    """Return whether a regex matches a name below ``transformer.``, or its end after a dot."""
    words = name.removeprefix("transformer.").split(".")
    return any(re.fullmatch(pattern, ".".join(words[i:])) for i in range(len(words)))
