"""What code of a team's own is told while a training runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from gpt2dsl.cluster.reports import Reporter
    from gpt2dsl.engine.job import Result


class Callback:
    """Told of steps, evaluations, checkpoints and the end; a subclass overrides what it needs.

    ``plan.run(callbacks=[...])`` takes them, or a list ``callbacks`` beside a recipe in its module.
    An exception stops the run; the checkpoints that were written stay.
    """

    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """After an optimizer step: loss, lr, gradient_norm, tokens_per_second, loss_scale."""

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """After an evaluation: eval_loss and what goes with it."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """After a checkpoint is whole."""

    def on_end(self, result: Result) -> None:
        """After the last step, once the report is written."""


class Forward(Callback):
    """Tells the process that started the ranks, whose callbacks are the user's."""

    def __init__(self, reports: Reporter) -> None:
        self.reports = reports

    @override
    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        self._told("on_step", step, dict(metrics))

    @override
    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        self._told("on_evaluation", step, dict(metrics))

    @override
    def on_checkpoint(self, step: int, folder: Path) -> None:
        self._told("on_checkpoint", step, str(folder))

    def _told(self, event: str, step: int, what: object) -> None:
        self.reports.other({"kind": "event", "event": event, "step": step, "what": what})


class Callbacks(Callback):
    """Several, told in turn."""

    def __init__(self, several: Iterable[Callback]) -> None:
        self.several = tuple(several)

    @override
    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Each."""
        for one in self.several:
            one.on_step(step, metrics)

    @override
    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Each."""
        for one in self.several:
            one.on_evaluation(step, metrics)

    @override
    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Each."""
        for one in self.several:
            one.on_checkpoint(step, folder)

    @override
    def on_end(self, result: Result) -> None:
        """Each."""
        for one in self.several:
            one.on_end(result)
