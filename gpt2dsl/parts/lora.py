"""LoRA: training of low-rank adapters beside frozen weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from gpt2dsl.layout.lora import LoRASettings
from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import flag, integer, number, patterns, text


@part
class LoRA(Part):
    """Low-rank adapters (Hu et al. 2021): ``y = Wx + (alpha / r) B A dropout(x)``."""

    table: ClassVar[str] = "lora"

    r: int = integer("rank", low=1, default=8)
    alpha: float = number("numerator of the scale alpha / r", above=True, default=16)
    dropout: float = number("probability on the adapter's input", high=1.0, below=True, default=0.0)
    targets: str = text(
        "regex on names of modules; q, k, v are the thirds of c_attn",
        empty=False,
        default="c_attn",
    )
    rslora: bool = flag("the scale is alpha / sqrt(r) (Kalajdzievski 2023)", default=False)
    rank_pattern: Mapping[str, int] = patterns(
        "regex on names of modules → their r", integers=True, default={}
    )
    alpha_pattern: Mapping[str, float] = patterns(
        "regex on names of modules → their alpha", integers=False, default={}
    )

    def settings(self) -> LoRASettings:
        return LoRASettings(
            targets=self.targets,
            r=self.r,
            alpha=self.alpha,
            rslora=self.rslora,
            ranks=self.rank_pattern,
            alphas=self.alpha_pattern,
        )
