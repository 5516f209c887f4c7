"""A network with a classification head and its tokenizer: outputs for texts, and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.backend import device
from gpt2dsl.data.examples import BUCKET, Examples, encoded, padded
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.job import Job
from gpt2dsl.engine.progress import SPARSE, Bar
from gpt2dsl.engine.scores import ClassificationMetrics, RegressionScores
from gpt2dsl.errors import RunError
from gpt2dsl.layout.config import MULTI_LABEL, REGRESSION
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.training.batch_outputs import BatchOutputs

AT_ONCE = 8
"""Batch size of classification."""


class TextClassifier:
    """A network with a classification head.

    Args:
        network: a network with a classification head.
        tokenizer: tokenizer of the weights.
        names: class names.
        seq_length: maximum tokens of a text, as in training; longer ones are truncated.
        skipped: id at which no text is classified, from ``pad_of``.
        outputs: class scores of the network; of ``AT_ONCE`` rows at a time by default.
    """

    def __init__(
        self,
        network: GPT2,
        tokenizer: Tokenizer,
        names: Sequence[str],
        seq_length: int,
        skipped: int | None = None,
        *,
        outputs: BatchOutputs | None = None,
    ) -> None:
        self.names, self._skipped = tuple(names), skipped
        self.tokenizer = tokenizer
        self.length = min(network.config.positions, seq_length)
        self._problem = network.config.problem
        with device.turn():
            self._outputs = outputs or BatchOutputs(network, AT_ONCE)

    def outputs(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the outputs ``[texts, classes]``; texts that are too long are truncated.

        Outputs are probabilities that sum to 1 in each row; for multi-label heads, independent
        probabilities; for a regression, the raw values.
        """
        batches = [np.zeros((0, len(self.names)))]
        for start in range(0, len(texts), AT_ONCE):
            rows = encoded(list(texts[start : start + AT_ONCE]), self.tokenizer, self.length)
            length = min(self.length, -(-max(map(len, rows)) // BUCKET) * BUCKET)
            ids, last = padded(rows, length, self.tokenizer.filler, self._skipped)
            batches.append(self._activated(self._logits(ids, last, len(rows))))
        return np.concatenate(batches)

    def _logits(
        self, ids: NDArray[np.int32], last: NDArray[np.int32], count: int
    ) -> NDArray[np.float32]:
        """Return the class scores of the first ``count`` rows; the others are padding."""
        return self._outputs.of(ids, last, np.arange(len(ids)) < count)[:count]

    def _activated(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        if self._problem == REGRESSION:
            return logits.astype(np.float64)
        if self._problem == MULTI_LABEL:
            return 1 / (1 + np.exp(-logits.astype(np.float64)))
        return softmax(logits)

    def regression_scores(
        self,
        examples: Examples,
        batch_size: int,
        *,
        until: Callable[[], bool] = lambda: False,
        pause: float = SPARSE,
    ) -> RegressionScores | None:
        """Return the regression metrics of examples; arguments as for ``scores``."""
        predictions: list[NDArray[np.float32]] = []
        with Bar("evaluating", -(-len(examples) // batch_size), pause=pause) as bar:
            for ids, last, numbers in examples.batches(batch_size):
                predictions.append(self._logits(ids, last, len(numbers))[:, 0])
                bar.step("")
                if until():
                    return None
        scores = RegressionScores.of(examples.classes, np.concatenate(predictions))
        if not np.isfinite(scores.loss):
            raise _unusable(examples.name, scores.loss)
        return scores

    def scores(
        self,
        examples: Examples,
        batch_size: int,
        *,
        until: Callable[[], bool] = lambda: False,
        pause: float = SPARSE,
    ) -> ClassificationMetrics | None:
        """Return the classification metrics of examples.

        Args:
            examples: the examples.
            batch_size: number of examples in a batch.
            until: called after each batch; True aborts the evaluation, which then returns None.
            pause: minimum seconds between printed lines.

        Raises:
            RunError: the loss is not finite.
        """
        predictions: list[NDArray[np.int64]] = []
        loss = 0.0
        with Bar("evaluating", -(-len(examples) // batch_size), pause=pause) as bar:
            for ids, last, classes in examples.batches(batch_size):
                shares = softmax(self._logits(ids, last, len(classes)))
                loss -= float(np.log(shares[np.arange(len(classes)), classes] + 1e-300).sum())
                predictions.append(shares.argmax(1))
                bar.step(f"loss {loss / sum(map(len, predictions)):.4f}")
                if until():
                    return None
        if not np.isfinite(loss):
            raise _unusable(examples.name, loss)
        return ClassificationMetrics.of(
            self.names, examples.classes, np.concatenate(predictions), loss / len(examples)
        )


def pad_of(job: Job, tokenizer: Tokenizer) -> int | None:
    """Return the id at which no text is classified: ``pad_token_id`` of the weights, or None.

    Training uses the one that its checkpoints will have, which a new head always has.
    """
    info = job.weights_info
    pad = info.config.get("pad_token_id") if info else None
    is_new = info is None or not info.geometry.labels
    if pad is None and (is_new or job.parts.trains):
        pad = tokenizer.pad
    if pad is None and is_new:
        pad = tokenizer.eos
    return pad if isinstance(pad, int) else None


def _unusable(name: str, loss: float) -> RunError:
    return RunError("G2-402", f"{name}: the loss is {loss}; the weights are unusable")


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the probabilities along the last axis."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(-1, keepdims=True)
    return probabilities
