"""Where LoRA's adapters sit, and their shapes: the one table of what they add to the network.

The network, the files, the parameters of a plan and the memory of a rank all come from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import param_specs

THIRDS = ("q", "k", "v")
"""Of c_attn's output, in this order."""

MODULES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


@attrs.frozen(kw_only=True)
class LoRASpec:
    """One adapted module, or a third of one: ``y += scale B A x``.

    Attributes:
        module: the linear that it is added to: ``transformer.h.0.attn.c_attn``.
        third: q, k or v where it adds to a third of c_attn alone, else "".
        layer: the block.
        inputs: width of A's rows; A is ``[rank, inputs]``.
        outputs: B is ``[outputs, rank]``.
        rank: r.
        scale: alpha / r, or alpha / sqrt(r) of rank-stabilised LoRA.
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
        """Of the adapter: the module's, and the third's."""
        return f"{self.module}.{self.third}" if self.third else self.module

    @property
    def slot(self) -> int:
        """Its place within any block, the same in all networks."""
        if self.third:
            return len(MODULES) + THIRDS.index(self.third)
        return next(i for i, module in enumerate(MODULES) if self.module.endswith(module))

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """The two tensors, by name."""
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
    """What decides the adapters of a network.

    Attributes:
        targets: regex on the module's name.
        r: rank.
        alpha: numerator of the scale.
        rslora: whether the scale is alpha / sqrt(r) (Kalajdzievski 2023).
        ranks: regex on the module's name → its own r; the first that matches.
        alphas: regex on the module's name → its own alpha.
    """

    targets: str
    r: int
    alpha: float
    rslora: bool = False
    ranks: Mapping[str, int] = attrs.field(factory=dict)
    alphas: Mapping[str, float] = attrs.field(factory=dict)


def lora_specs(geometry: GPT2Config, settings: LoRASettings) -> list[LoRASpec]:
    """Return every adapter of a network, in the order of the forward pass.

    Patterns match a module's whole name below ``transformer.``, ``h.0.attn.c_attn``, or what
    follows any dot in it. ``q``, ``k`` and ``v`` below ``c_attn`` are its thirds; they count where
    c_attn as a whole does not match.
    """
    return [
        _made(settings, module, third, layer, (inputs, outputs))
        for module, layer, inputs, outputs in _linears(geometry)
        for third, outputs in _parts(settings.targets, module, outputs)
    ]


def _linears(geometry: GPT2Config) -> Iterator[tuple[str, int, int, int]]:
    """Module, block and widths of every linear of the blocks."""
    for tensor in param_specs(geometry):
        module = tensor.name.removesuffix(".weight")
        if tensor.name.endswith(".weight") and module.endswith(MODULES):
            yield module, tensor.layer, *tensor.shape  # type: ignore[misc]


def _parts(targets: str, module: str, outputs: int) -> list[tuple[str, int]]:
    """Which thirds of a linear are adapted, "" for all of it, and their output's width."""
    if matches(targets, module):
        return [("", outputs)]
    if not module.endswith("c_attn"):
        return []
    thirds = (third for third in THIRDS if matches(targets, f"{module}.{third}"))
    return [(third, outputs // 3) for third in thirds]


def _made(
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
    """Whether a regex matches a module's name below ``transformer.``, or its end after a dot."""
    words = name.removeprefix("transformer.").split(".")
    return any(re.fullmatch(pattern, ".".join(words[i:])) for i in range(len(words)))
