"""The numbers that fix a GPT-2 network, as Hugging Face's config.json has them."""

from __future__ import annotations

import attrs

ACTIVATIONS = ("gelu_new", "gelu", "fast_gelu", "relu")
"""gelu_new: tanh form. gelu: erf. fast_gelu: MindFormers' ``x * sigmoid(1.702 x)``."""

PADDED_TO = 128
"""The vocabulary inside the network is padded to a multiple of this: 50257 = 29 * 1733 can't be
split over devices, 50304 can."""


@attrs.frozen(kw_only=True)
class Geometry:
    """A GPT-2 network.

    Attributes:
        layers: number of blocks (``n_layer``).
        heads: attention heads a block (``n_head``); divides ``hidden``.
        hidden: width (``n_embd``).
        positions: longest sequence in tokens (``n_positions``).
        vocab: rows of the word table in files (``vocab_size``).
        inner: width inside the MLP (``n_inner``); 0 means four times ``hidden``.
        activation: one of ``ACTIVATIONS``.
        dropout: probability after embedding, attention and residual projections, in training.
        epsilon: of the layer norms.
        scale_attention: whether scores are divided by the square root of a head's width.
        labels: classes of the classification head, 0 for a language model.
    """

    layers: int
    heads: int
    hidden: int
    positions: int
    vocab: int
    inner: int = 0
    activation: str = "gelu_new"
    dropout: float = 0.1
    epsilon: float = 1e-5
    scale_attention: bool = True
    labels: int = 0

    @property
    def inner_width(self) -> int:
        """Width inside the MLP."""
        return self.inner or 4 * self.hidden

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @property
    def padded_vocab(self) -> int:
        """Rows of the word table inside the network."""
        return -(-self.vocab // PADDED_TO) * PADDED_TO
