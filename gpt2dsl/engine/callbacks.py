"""What code of a team's own is told while a training runs."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from typing_extensions import override

from gpt2dsl.errors import RunError
from gpt2dsl.notebook import ShownAsCode, ShownAsText
from gpt2dsl.parts.base import PACKAGE

if TYPE_CHECKING:
    from gpt2dsl.cluster.reports import Reporter
    from gpt2dsl.engine.job import Result


@attrs.frozen(kw_only=True)
class Start(ShownAsText):
    """What is known of a training before its first step.

    Attributes:
        name: of the run.
        directory: of the run.
        step: steps that were done before, 0 unless it goes on from a checkpoint.
        steps: planned in all.
        recipe: the recipe as TOML, ``Recipe.from_toml`` reads it.
    """

    name: str
    directory: Path
    step: int
    steps: int
    recipe: str = attrs.field(repr=False)

    def __str__(self) -> str:
        return f"{self.name}: steps {self.step:,} to {self.steps:,} in {self.directory}"


class Callback(ShownAsCode):
    """Told of the start, steps, evaluations, checkpoints and the end.

    A subclass overrides what it needs.

    ``plan.run(callbacks=[...])`` takes them, or a list ``callbacks`` beside a recipe in its module.
    An exception stops the run; the checkpoints that were written stay.
    """

    def __repr__(self) -> str:
        told = [name for name in _HOOKS if getattr(type(self), name) is not getattr(Callback, name)]
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__}: {', '.join(told) or 'told of nothing'}>"

    def on_start(self, start: Start) -> None:
        """Before the first step, once the weights and the data are there."""

    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """After an optimizer step: loss, lr, gradient_norm, tokens_per_second, loss_scale."""

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """After an evaluation: eval_loss and what goes with it."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """After a checkpoint is whole."""

    def on_end(self, result: Result) -> None:
        """After the last step, once the report is written."""


_HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class Named(Callback):
    """A user's callback on the command line, whose exceptions are reported as the user's own.

    In Python it is not wrapped: whoever passes a callback may wait for its exception.
    """

    def __init__(self, inner: Callback) -> None:
        self.inner = inner

    @override
    def on_start(self, start: Start) -> None:
        with self._named("on_start", ""):
            self.inner.on_start(start)

    @override
    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        with self._named("on_step", f" at step {step}"):
            self.inner.on_step(step, metrics)

    @override
    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        with self._named("on_evaluation", f" at step {step}"):
            self.inner.on_evaluation(step, metrics)

    @override
    def on_checkpoint(self, step: int, folder: Path) -> None:
        with self._named("on_checkpoint", f" at step {step}"):
            self.inner.on_checkpoint(step, folder)

    @override
    def on_end(self, result: Result) -> None:
        with self._named("on_end", ""):
            self.inner.on_end(result)

    @contextmanager
    def _named(self, event: str, when: str) -> Iterator[None]:
        """Raise RunError for whatever the callback raises, with its file and line."""
        try:
            yield
        except Exception as error:
            kind = type(self.inner)
            what = f"{kind.__name__}.{event}{when}: {type(error).__name__}: {error}"
            raise RunError(f"{_line(error, kind)}: your callback {what} [G2-402]") from error


def _line(error: Exception, kind: type) -> str:
    """Return file and line of a callback's own code where an error passed through it."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if not frame.filename.startswith(PACKAGE)]
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    own = [frame for frame in outside if frame.filename == file]
    last = (own or outside[:1] or frames)[-1]
    return f"{last.filename}:{last.lineno}"


class ReportForwarder(Callback):
    """Tells the process that started the ranks, whose callbacks are the user's."""

    def __init__(self, reports: Reporter) -> None:
        self.reports = reports

    @override
    def on_start(self, start: Start) -> None:
        said = attrs.asdict(start) | {"directory": str(start.directory)}
        self._told("on_start", start.step, said)

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
    def on_start(self, start: Start) -> None:
        """Each."""
        for one in self.several:
            one.on_start(start)

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
