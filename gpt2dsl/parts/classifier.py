"""Classification head in place of the language-model head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import labels as label_list


@part
class Classifier(Part):
    """A linear head over the last real token, as GPT2ForSequenceClassification has it."""

    table: ClassVar[str] = "classifier"

    labels: int | Sequence[str] = label_list("number of classes, or their names", default=2)

    @property
    def count(self) -> int:
        """Number of classes."""
        return self.labels if isinstance(self.labels, int) else len(self.labels)
