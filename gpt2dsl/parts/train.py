"""Training loop: batch, length, seed, and when to evaluate and save."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice, flag, integer, number, text


@part
class Train(Part):
    """The training loop. Its batch is the global one, over all ranks."""

    table: ClassVar[str] = "train"
    exclusive: ClassVar[tuple[tuple[str, str], ...]] = (("epochs", "steps"),)
    unidentified: ClassVar[frozenset[str]] = frozenset({"async_save", "export"})

    batch_size: int = integer("rows per optimizer step, over all ranks", low=1, default=8)
    seq_length: int = integer(
        "tokens per row; rows have one more, for the labels", low=1, default=1024
    )
    epochs: int | None = integer(
        "passes over the data; 1 if neither epochs nor steps is set",
        low=1,
        optional=True,
        default=None,
    )
    steps: int | None = integer(
        "optimizer steps, in place of epochs", low=1, optional=True, default=None
    )
    clip: float = number("maximum global gradient norm; 0 for no limit", default=1.0)
    seed: int = integer("seed of new weights, data order and dropout", high=2**32 - 1, default=0)
    evaluate_every: int = integer(
        "steps between evaluations; 0: only before and after training", default=0
    )
    save_every: int = integer("steps between checkpoints; 0: only at the end", default=0)
    keep: int = integer("number of newest checkpoints to keep", low=1, default=3)
    best: bool = flag("also keep the checkpoint with the lowest loss on eval_data", default=False)
    patience: int = integer(
        "stop after this many evaluations in a row without a lower loss; 0: never", default=0
    )
    async_save: bool = flag(
        "write checkpoints in the background; steps wait only for a copy of the state in memory",
        default=True,
    )
    export: str = choice(
        ("none", "hf"),
        "hf: at the end, also write the weights for transformers, adapters merged, to the folder "
        "hf of the run",
        default="none",
    )
    resume: str = text("auto, never, or the folder of a checkpoint", empty=False, default="auto")

    @property
    def passes(self) -> int:
        """Epochs, where the recipe sets no steps."""
        return self.epochs or 1
