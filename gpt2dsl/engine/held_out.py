"""Evaluation on held-out data during training: metrics, the best step and early stopping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from gpt2dsl.data.examples import Examples
from gpt2dsl.data.rows import Rows
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.engine.classifier import TextClassifier
from gpt2dsl.engine.evaluate import batch_outputs, mean_loss, perplexity
from gpt2dsl.engine.job import Job
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.engine.progress import RARE, say, saying
from gpt2dsl.engine.scores import ClassificationMetrics, RegressionScores
from gpt2dsl.engine.showcase import Showcase, show
from gpt2dsl.layout.config import REGRESSION
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.training.batch_outputs import BatchOutputs

Metrics = dict[str, float]


class HeldOut:
    """Evaluator of a network on held-out data.

    Args:
        job: job of the run.
        network: the network; each method evaluates its current weights.
        tokenizer: tokenizer of the network and the data.
        rows: the data.
        wanted: called after each batch; True aborts the evaluation because the user stops.
        team: the ranks that share the work.
    """

    def __init__(
        self,
        job: Job,
        network: GPT2,
        tokenizer: Tokenizer,
        rows: Rows | Examples,
        *,
        wanted: Callable[[], bool],
        team: ParallelContext,
    ) -> None:
        self._team = team
        self._job, self._network, self._tokenizer = job, network, tokenizer
        self._rows, self._wanted = rows, wanted
        self.scores: ClassificationMetrics | RegressionScores | None = None

    def metrics(self, step: int) -> Metrics | None:
        """Return the metrics over all rows; None if the user stopped the evaluation."""
        if isinstance(self._rows, Examples):
            return self._of_classes(self._rows, step)
        batch = self._job.parts.train.batch_size
        measured = mean_loss(self._outputs, self._rows, batch, until=self._wanted, pause=RARE)
        if measured is None:
            return None
        loss, tokens = measured
        words = f"held-out loss {loss:.4f}, perplexity {perplexity(loss):,.2f}"
        say(f"step {step}: {words}")
        return {"eval_loss": loss, "eval_perplexity": perplexity(loss), "eval_tokens": tokens}

    def _of_classes(self, examples: Examples, step: int) -> Metrics | None:
        batch = self._job.parts.train.batch_size
        if self._job.geometry.problem == REGRESSION:
            return self._of_numbers(examples, batch, step)
        self.scores = scores = self._classifier.scores(
            examples, batch, until=self._wanted, pause=RARE
        )
        if scores is None:
            return None
        loss, accuracy = scores.loss, scores.accuracy
        say(f"step {step}: held-out loss {loss:.4f}, accuracy {accuracy:.4f}")
        return {"eval_loss": loss, "eval_accuracy": accuracy, "eval_matthews": scores.matthews}

    def _of_numbers(self, examples: Examples, batch: int, step: int) -> Metrics | None:
        self.scores = scores = self._classifier.regression_scores(
            examples, batch, until=self._wanted, pause=RARE
        )
        if scores is None:
            return None
        words = f"held-out squared error {scores.loss:.4f}, correlation {scores.pearson:.4f}"
        say(f"step {step}: {words}")
        return {"eval_loss": scores.loss, "eval_pearson": scores.pearson}

    def showcase(self) -> Showcase | None:
        """Return samples of the network's current state; None for classifiers."""
        if isinstance(self._rows, Examples):
            return None
        with saying("generating samples for the report"):
            generate = None
            if (
                self._team.pipeline_group.size == 1
                and not self._team.tensor_group.sequence_parallel
            ):
                generate = LanguageModel(self._network, self._tokenizer).continuations
            return show(self._tokenizer, self._outputs, self._rows, self._job.parts, generate)

    @cached_property
    def _outputs(self) -> BatchOutputs:
        return batch_outputs(self._job, self._network, self._team)

    @cached_property
    def _classifier(self) -> TextClassifier:
        length = self._job.parts.train.seq_length
        return TextClassifier(
            self._network, self._tokenizer, self._job.classes, length, outputs=self._outputs
        )


def best_step(evaluations: Sequence[Metrics]) -> int | None:
    """Return the step with the lowest held-out loss, the first of equal ones."""
    candidates = [evaluation for evaluation in evaluations if evaluation["step"] > 0]
    return (
        int(min(candidates, key=lambda evaluation: evaluation["eval_loss"])["step"])
        if candidates
        else None
    )


def warnings(evaluations: Sequence[Metrics]) -> list[str]:
    """Return a warning if every evaluation is worse than that of the initial weights."""
    best = best_step(evaluations)
    losses = {evaluation["step"]: evaluation["eval_loss"] for evaluation in evaluations}
    if best is None or 0 not in losses or losses[best] <= losses[0]:
        return []
    return ["at no evaluation was the loss on eval_data as low as before training"]


def is_out_of_patience(evaluations: Sequence[Metrics], patience: int) -> bool:
    """Return whether the last ``patience`` evaluations brought no lower loss; never for 0."""
    losses = [evaluation["eval_loss"] for evaluation in evaluations]
    if not patience or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience])


def kept_checkpoint(parent: Path, step: int | None) -> Path | None:
    """Return the checkpoint of a step, if it exists."""
    folder = parent / f"step-{step}"
    return folder if step is not None and folder.exists() else None
