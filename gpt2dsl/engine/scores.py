"""Metrics of classification and regression heads."""

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
    """Metrics derived from a confusion matrix.

    Attributes:
        names: class names.
        confusion: number of rows by true and predicted class, ``[true, predicted]``.
        loss: mean cross-entropy of the rows, in nats.
    """

    names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    loss: float

    @classmethod
    def of(
        cls, names: Sequence[str], true: NDArray[Any], said: NDArray[Any], loss: float
    ) -> ClassificationMetrics:
        """Return the metrics of rows from their true and predicted classes."""
        counts = np.zeros((len(names), len(names)), np.int64)
        np.add.at(counts, (true, said), 1)
        return cls(tuple(names), tuple(tuple(map(int, row)) for row in counts), loss)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(map(sum, self.confusion))

    @property
    def accuracy(self) -> float:
        """Fraction of rows whose class was predicted correctly."""
        right = sum(row[i] for i, row in enumerate(self.confusion))
        return right / self.rows if self.rows else math.nan

    @property
    def matthews(self) -> float:
        """Matthews correlation, for any number of classes (Gorodkin 2004); 0 where undefined."""
        counts = np.array(self.confusion, np.float64)
        true, predicted, total = counts.sum(1), counts.sum(0), counts.sum()
        top = np.trace(counts) * total - true @ predicted
        below = math.sqrt((total**2 - predicted @ predicted) * (total**2 - true @ true))
        return float(top / below) if below else 0.0

    def of_class(self, i: int) -> dict[str, float]:
        """Return precision, recall, F1 and rows of one class; 0 where undefined."""
        right = self.confusion[i][i]
        predicted = sum(row[i] for row in self.confusion)
        rows = sum(self.confusion[i])
        precision = right / predicted if predicted else 0.0
        recall = right / rows if rows else 0.0
        both = precision + recall
        f1 = 2 * precision * recall / both if both else 0.0
        return {"precision": precision, "recall": recall, "f1": f1, "rows": rows}

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as a JSON object."""
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
            scores = self.of_class(i)
            lines.append(
                f"{left(name, columns)}  {scores['precision']:9.4f}  {scores['recall']:6.4f}"
                f"  {scores['f1']:6.4f}  {scores['rows']:6,.0f}"
            )
        return "\n".join(lines)


@attrs.frozen
class RegressionScores(ShownAsText):
    """Metrics of a regression.

    Attributes:
        rows: number of rows.
        loss: mean squared error.
        pearson: Pearson correlation of outputs and labels; 0 if either is constant.
    """

    rows: int
    loss: float
    pearson: float

    @classmethod
    def of(cls, true: NDArray[Any], predicted: NDArray[Any]) -> RegressionScores:
        """Return the metrics of rows from their labels and the network's outputs."""
        true, predicted = true.astype(np.float64), predicted.astype(np.float64)
        a, b = true - true.mean(), predicted - predicted.mean()
        below = math.sqrt((a @ a) * (b @ b))
        pearson = float(a @ b) / below if below else 0.0
        return cls(len(true), float(np.square(predicted - true).mean()), pearson)

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as a JSON object."""
        return {"rows": self.rows, "mean_squared_error": self.loss, "pearson": self.pearson}

    def __str__(self) -> str:
        return f"pearson     {self.pearson:.4f} of {self.rows:,} rows"
