"""Optimizer."""

from __future__ import annotations

from typing import ClassVar

import attrs

from gpt2dsl.layout.optimizer import OptimizerConfig
from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice, flag, number


@part
class Optim(Part):
    """The optimizer; weight decay applies to matrices and tables, not to biases and norms."""

    table: ClassVar[str] = "optim"

    name: str = choice(("adamw", "sgd"), "AdamW (Loshchilov & Hutter 2019) or SGD", default="adamw")
    lr: float = number("peak learning rate", above=True, default=1e-4)
    beta1: float = number("decay of the first moment", high=1.0, below=True, default=0.9)
    beta2: float = number("decay of the second moment", high=1.0, below=True, default=0.95)
    eps: float = number("added to the denominator", above=True, default=1e-8)
    momentum: float = number("momentum of sgd", high=1.0, below=True, default=0.9)
    bias_correction: bool = flag(
        "correct the bias of adamw's moments; false gives MindFormers' arithmetic", default=True
    )
    weight_decay: float = number("decoupled: p -= lr * weight_decay * p", default=0.1)

    def settings(self) -> OptimizerConfig:
        """Return the settings for ``training.optimizers``; the schedule has the learning rate."""
        names = [field.name for field in attrs.fields(OptimizerConfig)]
        return OptimizerConfig(**{name: getattr(self, name) for name in names})
