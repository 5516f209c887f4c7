"""Settings of an optimizer."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class OptimizerConfig:
    """Settings of an optimizer, without the learning rate, which is an argument of each step.

    Attributes:
        name: adamw or sgd.
        beta1: decay of AdamW's first moment.
        beta2: decay of AdamW's second moment.
        eps: added to AdamW's denominator.
        momentum: momentum of SGD.
        bias_correction: whether AdamW corrects its moments.
        weight_decay: decoupled weight decay, of matrices and tables only.
    """

    name: str
    beta1: float
    beta2: float
    eps: float
    momentum: float
    bias_correction: bool
    weight_decay: float
