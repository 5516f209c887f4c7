"""Floating-point operations of a training step, for the utilization of a device."""

from __future__ import annotations

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import HEAD, WTE, head_of, param_specs


def model_flops(config: GPT2Config, rows: int, length: int, *, frozen: bool = False) -> int:
    """Return the FLOPs of a step's matrix products: ``6 N + 12 L h t`` a token.

    A multiplication and an addition for each weight and token forward, twice as many backward.
    Recomputed activations do not count (Chowdhery et al. 2022, PaLM, appendix B).

    Args:
        config: the network.
        rows: rows of a step, over all ranks.
        length: tokens of a row.
        frozen: whether only adapters are trained: frozen weights have no gradients, ``4 N``.
    """
    passes = 4 if frozen else 6
    return rows * length * (passes * _multiplied(config) + 6 * attention_products(config, length))


def attention_products(config: GPT2Config, length: int) -> int:
    """Return the multiplications per token of queries with keys, and of scores with values."""
    return 2 * config.layers * config.hidden * length


def _multiplied(config: GPT2Config) -> int:
    """Return the weights that multiply each token: the blocks' matrices and the head."""
    has_vocabulary_head = head_of(config) in (WTE, HEAD)
    return sum(
        spec.size
        for spec in param_specs(config)
        if (0 <= spec.layer < config.layers and len(spec.shape) > 1)
        or (has_vocabulary_head and spec.name == head_of(config))
    )
