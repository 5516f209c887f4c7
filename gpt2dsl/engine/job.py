"""The input and the result of an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data.source import Source
from gpt2dsl.engine.callbacks import Callback
from gpt2dsl.engine.generation.continuation import Continuation
from gpt2dsl.engine.scores import ClassificationMetrics, RegressionScores
from gpt2dsl.errors import counted
from gpt2dsl.identity.identity import Identity
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.notebook import ShownAsText
from gpt2dsl.parts import TASKS
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.reading import WeightsInfo

BETWEEN = "\n---\n"
"""Separator between printed texts."""


@attrs.frozen(kw_only=True)
class Job:
    """One planned run.

    Attributes:
        parts: the complete recipe.
        name: name of the run.
        geometry: dimensions of the network.
        tokenizer: gpt2, or a folder.
        weights: location of the weights; "" for new ones.
        weights_info: description of the weights, without tensors; None for new ones.
        sources: data that the plan has opened, by key.
        overrides: properties of the weights that their files may lack.
        steps: number of optimizer steps, 0 without training.
        flops: model FLOPs of a step, 0 without training.
        directory: directory of the run; None if nothing is kept.
        documents: file name → text that describes the run: ``plan.json``, ``recipe.toml``.
        plan_text: the plan as a table, for the report.
        resume_command: the command that resumes an interrupted run.
        notes: remarks for readers of the result.
        classes: class names of a classifier.
        base: name of the weights in an adapter's files: a Hub name, or an absolute path.
        identity: everything that the result depends on.
        callbacks: callbacks of a training run.
        generation_config: contents of generation_config.json beside trained weights; None for a
            minimal one.
        on_text: receives generated text in pieces, if the recipe streams.
    """

    parts: Parts
    name: str
    geometry: GPT2Config
    tokenizer: str
    weights: str
    weights_info: WeightsInfo | None
    sources: Mapping[str, Source]
    overrides: Overrides
    steps: int
    flops: int
    directory: Path | None
    documents: dict[str, str]
    plan_text: str
    resume_command: str
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    base: str = ""
    generation_config: Mapping[str, Any] | None = None
    identity: Identity = attrs.field(factory=lambda: Identity(values={}, contents={}), repr=False)
    callbacks: tuple[Callback, ...] = ()
    on_text: Callable[[str], None] | None = None


@attrs.frozen(kw_only=True, repr=False)
class Result(ShownAsText):
    """The result of a run. Fields that do not apply to its task are None or empty.

    Attributes:
        task: the kind of task.
        directory: directory of the run.
        checkpoint: the last checkpoint.
        best: the checkpoint with the lowest held-out loss, if the recipe keeps it.
        steps: number of optimizer steps done.
        skipped: number of steps skipped because gradients overflowed.
        stopped_early: whether evaluations stopped improving before the last planned step.
        loss: loss per token in nats, on ``eval_data`` or evaluate's ``data``, else of the last
            training steps.
        perplexity: ``exp(loss)`` if the loss is that of held-out text.
        loss_before: loss on the held-out text before training.
        perplexity_before: ``exp(loss_before)``.
        tokens: number of evaluated tokens.
        tokens_per_second: speed of training, without compilation; speed of generation, with it.
        mfu: model FLOPs utilization of training, without compilation; None where the peak of the
            device is not known.
        texts: prompts with their continuations; the texts of classify.
        continuations: full results of generate.
        target: output path of a conversion, or of a training's weights for transformers.
        size: size of its tensors in bytes.
        digest: digest of the complete weights, for reshard.
        seconds: duration.
        notes: remarks for readers of the result.
        scores: metrics of a classifier on ``eval_data`` or evaluate's data.
        classes: predicted class of each text.
        probabilities: probabilities of those classes.
        url: address of a server, until it was stopped.
        outputs: outputs for each text of a regression or multi-label head: name → value, for
            several labels the probability of each.
    """

    task: str
    directory: Path | None = None
    checkpoint: Path | None = None
    best: Path | None = None
    steps: int = 0
    skipped: int = 0
    stopped_early: bool = False
    loss: float | None = None
    perplexity: float | None = None
    loss_before: float | None = None
    perplexity_before: float | None = None
    tokens: int = 0
    tokens_per_second: float | None = None
    mfu: float | None = None
    texts: tuple[str, ...] = ()
    continuations: tuple[Continuation, ...] = ()
    target: Path | None = None
    size: int = 0
    digest: str = ""
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    scores: ClassificationMetrics | RegressionScores | None = None
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    outputs: tuple[Mapping[str, float], ...] = ()
    url: str = ""

    @classmethod
    def generated(cls, results: Sequence[Continuation], seconds: float, **more: Any) -> Result:
        """Return the result of generate.

        Args:
            results: the continuations.
            seconds: duration of generation, compilation included.
            more: other fields.
        """
        tokens = sum(continuation.tokens for continuation in results)
        return cls(
            task="generate",
            tokens=tokens,
            tokens_per_second=tokens / seconds,
            texts=tuple(continuation.prompt + continuation.text for continuation in results),
            continuations=tuple(results),
            **more,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the non-empty fields as a JSON object, of a training with its steps, 0 too."""
        fields = attrs.asdict(self, recurse=False)
        if self.scores:
            fields["scores"] = self.scores.to_json()
        fields["continuations"] = tuple(
            continuation.to_json() for continuation in self.continuations
        )
        trains = self.task in TASKS and TASKS[self.task].trains
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in fields.items()
            if (trains and name == "steps")
            or (value not in (None, (), "") and not (isinstance(value, int) and not value))
        }

    def __repr__(self) -> str:
        figures = {"loss": self.loss, "perplexity": self.perplexity}
        words = [f"{name} {value:,.4f}" for name, value in figures.items() if value is not None]
        if self.texts:
            words.append(counted(len(self.texts), "text"))
        if place := self.checkpoint or self.target or self.directory or self.url:
            words.append(str(place))
        return f"<Result of {self.task}: {', '.join(words)}>"

    def __str__(self) -> str:
        if self.task == "generate":
            return BETWEEN.join(self.texts)
        if self.task == "classify":
            return self._classified()
        lines = [str(self.scores)] if self.scores else []
        if self.perplexity_before is not None and self.perplexity is not None:
            lines.append(
                f"perplexity  {self.perplexity_before:,.1f} before, {self.perplexity:,.2f} after: "
                + _change(self.perplexity_before, self.perplexity)
            )
        elif self.perplexity is not None:
            lines.append(f"perplexity  {self.perplexity:,.4f}")
        if self.loss is not None:
            lines.append(f"loss        {self.loss:.4f}{self._of_what()}")
        if self.tokens_per_second:
            lines.append(f"speed       {self.tokens_per_second:,.0f} tokens/s")
        if self.target and self.seconds is not None:
            rate = f" at {self.size / 1e6 / self.seconds:,.0f} MB/s"
            lines.append(f"wrote       {self.target}")
            shown = "" if self.task == "export" else rate  # an export mostly verifies
            lines.append(f"size        {self.size / 1e6:,.1f} MB{shown}")
        if self.digest:
            lines.append(f"weights     xxh3 {self.digest}, in any layout")
        if self.skipped:
            lines.append(f"skipped     {self.skipped} of {self.steps} steps, which overflowed")
        lines += [f"note        {note}" for note in self.notes]
        places = {
            "checkpoint": self.checkpoint, "best": self.best, "run": self.directory,
            "hf": self.target if self.checkpoint else None, "served": self.url,
        }  # fmt: skip
        lines += [f"{word:<12}{place}" for word, place in places.items() if place]
        return "\n".join(lines)

    def _classified(self) -> str:
        """Return one line for each text."""
        if self.outputs:
            pairs = zip(self.outputs, self.texts, strict=True)
            return "\n".join(f"{_listed(outputs)}\t{text}" for outputs, text in pairs)
        rows = zip(self.classes, self.probabilities, self.texts, strict=True)
        return "\n".join(f"{name}\t{share:.4f}\t{text}" for name, share, text in rows)

    def _of_what(self) -> str:
        """Return what the loss is averaged over."""
        if self.tokens:
            return f" over {self.tokens:,} tokens"
        return " of the last training steps" if self.steps and self.perplexity is None else ""


def _listed(outputs: Mapping[str, float]) -> str:
    """Return outputs with their names, a single one without."""
    if len(outputs) == 1:
        return f"{next(iter(outputs.values())):.4f}"
    return ", ".join(f"{name} {value:.4f}" for name, value in outputs.items())


def _change(before: float, after: float) -> str:
    """Return the relative change of a perplexity."""
    word = "lower" if after < before else "higher"
    share, times = abs(after - before) / before, max(before / after, after / before)
    if before == after or share < 0.0005:
        return "unchanged"
    return f"{share:.1%} {word}" if times < 1.05 else f"{times:,.1f} times {word}"
