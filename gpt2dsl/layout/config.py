"""The numbers that fix a GPT-2 network, as Hugging Face's config.json has them."""

from __future__ import annotations

import math

import attrs

from gpt2dsl.schema import activations

ACTIVATIONS = activations.NAMES
"""gelu_new: tanh form. gelu: erf. fast_gelu: MindFormers' ``x * sigmoid(1.702 x)``, which
transformers calls quick_gelu. The others have transformers' names."""

REGRESSION, MULTI_LABEL = "regression", "multi_label_classification"
PROBLEMS = ("", REGRESSION, MULTI_LABEL)
"""What outputs of a classification head are: scores of classes, one of which applies; numbers;
scores of classes each of which applies or not. The names are transformers'."""

PADDED_TO = 128
"""The vocabulary inside the network is padded to a multiple of this: 50257 = 29 * 1733 can't be
split over devices, 50304 can."""


@attrs.frozen
class Dropouts:
    """Dropout probabilities in training.

    Attributes:
        embedding: after the embedding (``embd_pdrop``).
        attention: of attention probabilities (``attn_pdrop``).
        residual: after both projections of a block (``resid_pdrop``).
    """

    embedding: float
    attention: float
    residual: float


@attrs.frozen(kw_only=True)
class GPT2Config:
    """A GPT-2 network.

    Attributes:
        layers: number of blocks (``n_layer``).
        heads: attention heads a block (``n_head``); divides ``hidden``.
        hidden: width (``n_embd``).
        positions: longest sequence in tokens (``n_positions``).
        vocab: rows of the word table in files (``vocab_size``).
        inner: width inside the MLP (``n_inner``); 0 means four times ``hidden``.
        activation: one of ``ACTIVATIONS``.
        dropout: probability after residual projections, in training.
        embedding_dropout: probability after the embedding; None where it is ``dropout``.
        attention_dropout: probability on attention; None where it is ``dropout``.
        epsilon: of the layer norms.
        scale_attention: whether scores are divided by the square root of a head's width.
        scale_by_layer: whether scores are divided by the number of their layer, counted from 1.
        upcast_attention: whether scores are computed in float32 whatever products compute in.
        tied: whether the language-model head is the word table.
        labels: outputs of the classification head, 0 for a language model.
        problem: what those are: one of ``PROBLEMS``.
    """

    layers: int
    heads: int
    hidden: int
    positions: int
    vocab: int
    inner: int = 0
    activation: str = "gelu_new"
    dropout: float = 0.1
    embedding_dropout: float | None = None
    attention_dropout: float | None = None
    epsilon: float = 1e-5
    scale_attention: bool = True
    scale_by_layer: bool = False
    upcast_attention: bool = False
    tied: bool = True
    labels: int = 0
    problem: str = ""

    @property
    def dropouts(self) -> Dropouts:
        """All three probabilities."""
        embedding, attention = self.embedding_dropout, self.attention_dropout
        return Dropouts(
            embedding=self.dropout if embedding is None else embedding,
            attention=self.dropout if attention is None else attention,
            residual=self.dropout,
        )

    def with_dropout(self, probability: float) -> GPT2Config:
        """Return the network with one dropout probability everywhere."""
        return attrs.evolve(
            self, dropout=probability, embedding_dropout=None, attention_dropout=None
        )

    @property
    def inner_width(self) -> int:
        """Width inside the MLP."""
        return self.inner or 4 * self.hidden

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    def attention_scale(self, layer: int) -> float:
        """Return what a layer's attention scores are multiplied by."""
        scale = 1 / math.sqrt(self.head_width) if self.scale_attention else 1.0
        return scale / (layer + 1) if self.scale_by_layer else scale

    @property
    def padded_vocab(self) -> int:
        """Rows of the word table inside the network."""
        return -(-self.vocab // PADDED_TO) * PADDED_TO
