"""The optimizer."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice, number


@part
class Optim(Part):
    """The optimizer; weight decay applies to matrices and tables, not to biases and norms."""

    table: ClassVar[str] = "optim"

    name: str = choice("adamw", ("adamw", "sgd"), "Loshchilov & Hutter 2019, bias-corrected; sgd")
    lr: float = number(1e-4, "peak learning rate", above=True)
    beta1: float = number(0.9, "decay of the first moment", high=1.0, below=True)
    beta2: float = number(0.95, "decay of the second moment", high=1.0, below=True)
    eps: float = number(1e-8, "added to the denominator", above=True)
    weight_decay: float = number(0.1, "decoupled: p -= lr * weight_decay * p")
