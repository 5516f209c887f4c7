"""Metrics of a head's outputs: accuracy and the like for classes, correlation for numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.columns import left, width
from gpt2dsl.notebook import ShownAsText


@attrs.frozen
class ClassificationMetrics(ShownAsText):
    """What a confusion matrix says.

    Attributes:
        names: of the classes.
        confusion: rows of each true class, by the class that was said: ``[true, said]``.
        loss: mean cross-entropy of the rows, in nats.
    """

    names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    loss: float

    @classmethod
    def of(
        cls, names: Sequence[str], true: NDArray[Any], said: NDArray[Any], loss: float
    ) -> ClassificationMetrics:
        """Return the scores of rows: their true classes, and those that were said."""
        counts = np.zeros((len(names), len(names)), np.int64)
        np.add.at(counts, (true, said), 1)
        return cls(tuple(names), tuple(tuple(map(int, row)) for row in counts), loss)

    @property
    def rows(self) -> int:
        """How many there were."""
        return sum(map(sum, self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of rows whose class was said."""
        right = sum(row[i] for i, row in enumerate(self.confusion))
        return right / self.rows if self.rows else math.nan

    @property
    def matthews(self) -> float:
        """Matthews correlation, for any number of classes (Gorodkin 2004); 0 where undefined."""
        counts = np.array(self.confusion, np.float64)
        true, said, total = counts.sum(1), counts.sum(0), counts.sum()
        top = np.trace(counts) * total - true @ said
        below = math.sqrt((total**2 - said @ said) * (total**2 - true @ true))
        return float(top / below) if below else 0.0

    def of_class(self, i: int) -> dict[str, float]:
        """Precision, recall, F1 and rows of one class; 0 where undefined."""
        right = self.confusion[i][i]
        said = sum(row[i] for row in self.confusion)
        rows = sum(self.confusion[i])
        precision = right / said if said else 0.0
        recall = right / rows if rows else 0.0
        both = precision + recall
        f1 = 2 * precision * recall / both if both else 0.0
        return {"precision": precision, "recall": recall, "f1": f1, "rows": rows}

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "accuracy": self.accuracy,
            "matthews": self.matthews,
            "classes": {name: self.of_class(i) for i, name in enumerate(self.names)},
            "confusion": [list(row) for row in self.confusion],
        }

    def __str__(self) -> str:
        columns = max(7, *map(width, self.names))
        lines = [
            f"accuracy    {self.accuracy:.4f} of {self.rows:,} rows",
            f"matthews    {self.matthews:.4f}",
            f"{'class':<{columns}}  precision  recall      f1    rows",
        ]
        for i, name in enumerate(self.names):
            own = self.of_class(i)
            lines.append(
                f"{left(name, columns)}  {own['precision']:9.4f}  {own['recall']:6.4f}"
                f"  {own['f1']:6.4f}  {own['rows']:6,.0f}"
            )
        return "\n".join(lines)


@attrs.frozen
class RegressionScores(ShownAsText):
    """Metrics of a regression: how near its outputs are to the labels.

    Attributes:
        rows: how many there were.
        loss: mean squared error.
        pearson: correlation of both; 0 where one of them does not vary.
    """

    rows: int
    loss: float
    pearson: float

    @classmethod
    def of(cls, true: NDArray[Any], predicted: NDArray[Any]) -> RegressionScores:
        """Return the scores of rows: their numbers, and those that the network gave."""
        true, predicted = true.astype(np.float64), predicted.astype(np.float64)
        a, b = true - true.mean(), predicted - predicted.mean()
        below = math.sqrt((a @ a) * (b @ b))
        pearson = float(a @ b) / below if below else 0.0
        return cls(len(true), float(np.square(predicted - true).mean()), pearson)

    def to_json(self) -> dict[str, Any]:
        """Return them as JSON has them."""
        return {"rows": self.rows, "mean_squared_error": self.loss, "pearson": self.pearson}

    def __str__(self) -> str:
        return f"pearson     {self.pearson:.4f} of {self.rows:,} rows"
