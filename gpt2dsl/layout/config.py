"""Configuration of a GPT-2 network, as in Hugging Face's config.json."""

from __future__ import annotations

import math

import attrs

from gpt2dsl.schema import activations

ACTIVATIONS = activations.NAMES
"""Names of activations. gelu_new: tanh form. gelu: erf. fast_gelu: MindFormers'
``x * sigmoid(1.702 x)``, quick_gelu in transformers. The others have transformers' names."""

REGRESSION, MULTI_LABEL = "regression", "multi_label_classification"
PROBLEMS = ("", REGRESSION, MULTI_LABEL)
"""Problem types of a classification head, by transformers' names: single-label classification (""),
regression, multi-label classification."""

PADDED_TO = 128
"""Inside the network the vocabulary is padded to a multiple of this: 50257 = 29 * 1733 can't be
sharded over devices, 50304 can."""


@attrs.frozen
class Dropouts:
    """Dropout probabilities in training.

    Attributes:
        embedding: after the embedding (``embd_pdrop``).
        attention: on attention probabilities (``attn_pdrop``).
        residual: after both projections of a block (``resid_pdrop``).
    """

    embedding: float
    attention: float
    residual: float


@attrs.frozen(kw_only=True)
class GPT2Config:
    """Configuration of a GPT-2 network.

    Attributes:
        layers: number of blocks (``n_layer``).
        heads: attention heads per block (``n_head``); divides ``hidden``.
        hidden: width (``n_embd``).
        positions: maximum sequence length in tokens (``n_positions``).
        vocab: rows of the word table in files (``vocab_size``).
        inner: intermediate size of the MLP (``n_inner``); 0 means four times ``hidden``.
        activation: one of ``ACTIVATIONS``.
        dropout: dropout probability after residual projections, in training.
        embedding_dropout: dropout probability after the embedding; None for ``dropout``.
        attention_dropout: dropout probability on attention; None for ``dropout``.
        epsilon: epsilon of the layer norms.
        scale_attention: whether scores are divided by the square root of a head's width.
        scale_by_layer: whether scores are divided by the layer's number, counted from 1.
        upcast_attention: whether scores are computed in float32 under mixed precision too.
        tied: whether the language-model head is tied to the word table.
        labels: number of outputs of the classification head; 0 for a language model.
        problem: problem type of the classification head, one of ``PROBLEMS``.
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
        """All three dropout probabilities, with defaults resolved."""
        embedding, attention = self.embedding_dropout, self.attention_dropout
        return Dropouts(
            embedding=self.dropout if embedding is None else embedding,
            attention=self.dropout if attention is None else attention,
            residual=self.dropout,
        )

    def with_dropout(self, probability: float) -> GPT2Config:
        """Return the configuration with one dropout probability everywhere."""
        return attrs.evolve(
            self, dropout=probability, embedding_dropout=None, attention_dropout=None
        )

    @property
    def inner_width(self) -> int:
        """Intermediate size of the MLP."""
        return self.inner or 4 * self.hidden

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    def attention_scale(self, layer: int) -> float:
        """Return the factor on a layer's attention scores."""
        scale = 1 / math.sqrt(self.head_width) if self.scale_attention else 1.0
        return scale / (layer + 1) if self.scale_by_layer else scale

    @property
    def padded_vocab(self) -> int:
        """Number of rows of the word table inside the network."""
        return -(-self.vocab // PADDED_TO) * PADDED_TO
