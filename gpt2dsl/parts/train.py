"""The training loop: batches, length, seed, and when to evaluate and save."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import integer, number, text


@part
class Train(Part):
    """The training loop. Its batch is the global one, over all ranks."""

    table: ClassVar[str] = "train"
    exclusive: ClassVar[tuple[tuple[str, str], ...]] = (("epochs", "steps"),)

    batch_size: int = integer(8, "rows per optimizer step, over all ranks", low=1)
    seq_length: int = integer(1024, "tokens; rows hold one more, for the labels", low=1)
    epochs: int | None = integer(
        None, "passes over the data; 1 where neither epochs nor steps is said", low=1, optional=True
    )
    steps: int | None = integer(None, "optimizer steps, instead of epochs", low=1, optional=True)
    clip: float = number(1.0, "largest global gradient norm; 0 for none")
    seed: int = integer(0, "of new weights, data order and dropout", high=2**32 - 1)
    evaluate_every: int = integer(0, "steps between evaluations; 0: before and after only")
    save_every: int = integer(0, "steps between checkpoints; 0: at the end only")
    keep: int = integer(3, "checkpoints kept", low=1)
    resume: str = text("auto", "auto, never, or a checkpoint's folder", empty=False)

    @property
    def passes(self) -> int:
        """Passes over the data, where they and not the steps fix the length."""
        return self.epochs or 1
