"""Parameters of the network, with the names and shapes of Hugging Face's GPT-2.

The network, the files, a rank's memory and the strategy files are all derived from this table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

from gpt2dsl.layout.config import GPT2Config

WTE, WPE = "transformer.wte.weight", "transformer.wpe.weight"
LN_F = ("transformer.ln_f.weight", "transformer.ln_f.bias")
HEAD = "lm_head.weight"
"""Language-model head, if it is not tied to the word table."""

SCORE = "score.weight"
"""Classification head."""

VOCAB_TABLES = (WTE, HEAD)
"""Vocabulary tables: one row per vocabulary entry, padded inside the network."""


@attrs.frozen
class ParamSpec:
    """Specification of one parameter.

    Attributes:
        name: Hugging Face's name, ``transformer.h.0.attn.c_attn.weight``.
        shape: shape in files; inside the network ``VOCAB_TABLES`` have ``GPT2Config.padded_vocab``
            rows.
        split: axis sharded by tensor parallelism; None if replicated. For c_attn it is the axis of
            the heads, within each of query, key and value.
        layer: index of the block; -1 before the blocks, ``GPT2Config.layers`` after them.
    """

    name: str
    shape: tuple[int, ...]
    split: int | None
    layer: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def fused(self) -> int:
        """Number of matrices side by side along the sharded axis: c_attn's query, key and value."""
        return 3 if ".c_attn." in self.name else 1


def decays(shape: tuple[int, ...]) -> bool:
    """Return whether weight decay applies: matrices and tables do, biases and layer norms don't."""
    return len(shape) > 1


def by_layer(names: Sequence[str]) -> list[list[int]]:
    """Group the indices of names by block, with one group for names outside the blocks."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        block = name.split(".")[2] if name.startswith("transformer.h.") else ""
        groups.setdefault(block, []).append(index)
    return list(groups.values())


def head_of(config: GPT2Config) -> str:
    """Return the name of the head's weight, which maps hidden states to logits."""
    if config.labels:
        return SCORE
    return WTE if config.tied else HEAD


def padded_shape(tensor: ParamSpec, config: GPT2Config) -> tuple[int, ...]:
    """Return the shape of a parameter inside the network."""
    if tensor.name in VOCAB_TABLES:
        return (config.padded_vocab, config.hidden)
    return tensor.shape


def param_specs(config: GPT2Config) -> Iterator[ParamSpec]:
    """Yield every parameter of the network, in forward order."""
    h, inner = config.hidden, config.inner_width
    yield ParamSpec(WTE, (config.vocab, h), 0, -1)
    yield ParamSpec(WPE, (config.positions, h), None, -1)
    for i in range(config.layers):
        block = f"transformer.h.{i}"
        for name, shape, split in (
            ("ln_1.weight", (h,), None),
            ("ln_1.bias", (h,), None),
            ("attn.c_attn.weight", (h, 3 * h), 1),
            ("attn.c_attn.bias", (3 * h,), 0),
            ("attn.c_proj.weight", (h, h), 0),
            ("attn.c_proj.bias", (h,), None),
            ("ln_2.weight", (h,), None),
            ("ln_2.bias", (h,), None),
            ("mlp.c_fc.weight", (h, inner), 1),
            ("mlp.c_fc.bias", (inner,), 0),
            ("mlp.c_proj.weight", (inner, h), 0),
            ("mlp.c_proj.bias", (h,), None),
        ):
            yield ParamSpec(f"{block}.{name}", shape, split, i)
    for name in LN_F:
        yield ParamSpec(name, (h,), None, config.layers)
    head = head_of(config)
    if head == SCORE:
        yield ParamSpec(SCORE, (config.labels, h), None, config.layers)
    if head == HEAD:
        yield ParamSpec(HEAD, (config.vocab, h), 0, config.layers)


def parameter_count(config: GPT2Config) -> int:
    """Return the exact number of parameters; a tied language-model head adds none."""
    return sum(tensor.size for tensor in param_specs(config))
