"""Dtypes of parameters and of computation."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.layout.precision import PrecisionPolicy
from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice

DTYPES = ("float32", "float16", "bfloat16")


@part
class Precision(Part):
    """Number formats of parameters and of computing."""

    table: ClassVar[str] = "precision"

    params: str = choice(DTYPES, "format of the parameters", default="float32")
    compute: str = choice(DTYPES, "format of matrix products and activations", default="float32")
    loss_scale: str = choice(
        ("dynamic", "none"),
        "loss scaling with float16: initially 2^16, factor 2, window 1000",
        default="dynamic",
    )

    @property
    def policy(self) -> PrecisionPolicy:
        return PrecisionPolicy(self.params, self.compute)
