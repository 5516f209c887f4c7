"""Network and initial weights."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.layout.config import ACTIVATIONS, GPT2Config
from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice, integer, number, text

GPT2_VOCAB = 50257
GPT2_ROWS = (GPT2_VOCAB, 50304)
"""Rows of wte for GPT-2's vocabulary: one for each id, or padded to a multiple of 64."""

DROPOUT = 0.1
"""Dropout of new weights (Radford et al. 2018)."""

SIZES = {
    "nano": GPT2Config(layers=4, heads=4, hidden=128, positions=256, vocab=GPT2_VOCAB),
    "124m": GPT2Config(layers=12, heads=12, hidden=768, positions=1024, vocab=GPT2_VOCAB),
    "355m": GPT2Config(layers=24, heads=16, hidden=1024, positions=1024, vocab=GPT2_VOCAB),
    "774m": GPT2Config(layers=36, heads=20, hidden=1280, positions=1024, vocab=GPT2_VOCAB),
    "1.5b": GPT2Config(layers=48, heads=25, hidden=1600, positions=1024, vocab=GPT2_VOCAB),
    "13b": GPT2Config(
        layers=40, heads=40, hidden=5120, positions=2048, vocab=GPT2_VOCAB, activation="gelu"
    ),
    "52b": GPT2Config(layers=64, heads=32, hidden=8192, positions=1024, vocab=GPT2_VOCAB),
}
"""Radford et al. 2019 (124m to 1.5b), Cerebras-GPT (13b), MindFormers r0.8 (52b)."""

ALIASES = {"small": "124m", "medium": "355m", "large": "774m", "xl": "1.5b"}

PUBLISHED = {
    "124m": "openai-community/gpt2",
    "355m": "openai-community/gpt2-medium",
    "774m": "openai-community/gpt2-large",
    "1.5b": "openai-community/gpt2-xl",
    "13b": "cerebras/Cerebras-GPT-13B",
}
"""Size → name of its published weights on the Hub."""


def size_of(geometry: GPT2Config) -> str:
    """Return the name of a network's size; "" for none."""
    keys = ("layers", "heads", "hidden", "positions", "vocab", "inner_width")
    wanted = [getattr(geometry, key) for key in keys]
    named = ((name, [getattr(size, key) for key in keys]) for name, size in SIZES.items())
    return next((name for name, numbers in named if numbers == wanted), "")


@part
class Model(Part):
    """Which network, and the weights it starts from. A size's numbers can be overridden."""

    table: ClassVar[str] = "model"
    deferred: ClassVar[frozenset[str]] = frozenset({"dropout"})

    size: str = choice(
        ("", *SIZES, *ALIASES),
        "size of the network; by default that of the weights, or 124m",
        default="",
    )
    layers: int | None = integer("number of blocks", low=1, optional=True, default=None)
    heads: int | None = integer("attention heads per block", low=1, optional=True, default=None)
    hidden: int | None = integer("width", low=1, optional=True, default=None)
    positions: int | None = integer(
        "maximum sequence length in tokens", low=1, optional=True, default=None
    )
    vocab: int | None = integer("rows of the word embedding", low=1, optional=True, default=None)
    inner: int | None = integer(
        "width of the MLP; 4 * hidden by default", low=1, optional=True, default=None
    )
    activation: str = choice(
        ("", *ACTIVATIONS), "activation of the MLP; by default that of the size", default=""
    )
    dropout: float | None = number(
        "dropout probability in training, everywhere; by default those of the weights, which may "
        "differ by place, or 0.1 for new weights",
        high=1.0,
        below=True,
        optional=True,
        default=None,
    )
    weights: str = text(
        "auto: random for pretrain, else the published weights of the size; or random, a name on "
        "the Hub, a Hugging Face folder or file, a MindFormers .ckpt, a checkpoint or a run",
        empty=False,
        default="auto",
    )
    allow_missing: str = text(
        "regex on names of parameters that the weights may lack; they get new values", default=""
    )

    @property
    def canonical_size(self) -> str:
        """Size without aliases; 124m by default, "" where a file of weights decides."""
        if not self.size:
            return "" if self.has_file else "124m"
        return ALIASES.get(self.size, self.size)

    @property
    def has_file(self) -> bool:
        """Whether the weights come from a file, which has a configuration of its own."""
        return self.weights not in ("auto", "random")

    def geometry(self, *, vocab: int | None = None, labels: int = 0) -> GPT2Config:
        """Return the configuration of the network.

        Args:
            vocab: entries of the data's vocabulary, which set that of the nano size.
            labels: number of classes of the classification head.
        """
        base = SIZES[self.canonical_size or "124m"]
        own_vocab = vocab if self.size == "nano" and vocab is not None else base.vocab
        return GPT2Config(
            layers=self.layers or base.layers,
            heads=self.heads or base.heads,
            hidden=self.hidden or base.hidden,
            positions=self.positions or base.positions,
            vocab=self.vocab or own_vocab,
            inner=self.inner or 0,
            activation=self.activation or base.activation,
            dropout=DROPOUT if self.dropout is None else self.dropout,
            labels=labels,
        )
