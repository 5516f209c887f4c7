"""Callbacks: the interface of user code to a training run."""

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
    """The state of a training run before its first step.

    Attributes:
        name: name of the run.
        directory: directory of the run.
        step: number of steps done before, 0 unless the run resumes from a checkpoint.
        steps: total number of planned steps.
        recipe: the recipe as TOML, for ``Recipe.from_toml``.
    """

    name: str
    directory: Path
    step: int
    steps: int
    recipe: str = attrs.field(repr=False)

    def __str__(self) -> str:
        return f"{self.name}: steps {self.step:,} to {self.steps:,} in {self.directory}"


class Callback(ShownAsCode):
    """Base class of callbacks on the start, steps, evaluations, checkpoints and the end.

    Subclasses override the methods that they need.

    Pass callbacks to ``plan.run(callbacks=[...])``, or put a list ``callbacks`` beside a recipe in
    its module. An exception stops the run; checkpoints written before remain.
    """

    def __repr__(self) -> str:
        hooks = [
            name for name in _HOOKS if getattr(type(self), name) is not getattr(Callback, name)
        ]
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__}: {', '.join(hooks) or 'told of nothing'}>"

    def on_start(self, start: Start) -> None:
        """Run before the first step, once the weights and the data are loaded."""

    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Run after an optimizer step: loss, lr, gradient_norm, tokens_per_second, loss_scale."""

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Run after an evaluation, with eval_loss and related metrics."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Run after a checkpoint is complete."""

    def on_end(self, result: Result) -> None:
        """Run after the last step, once the report is written."""


_HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class Named(Callback):
    """A wrapper of a user's callback that turns its exceptions into RunError with their source.

    Only the command line wraps callbacks: in Python, the caller may expect the exception itself.
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
        """Raise RunError for any exception of the callback, with its file and line."""
        try:
            yield
        except Exception as error:
            kind = type(self.inner)
            what = f"{kind.__name__}.{event}{when}: {type(error).__name__}: {error}"
            raise RunError("G2-402", f"{_line(error, kind)}: your callback {what}") from error


def _line(error: Exception, kind: type) -> str:
    """Return file and line of the callback's own code that an error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if not frame.filename.startswith(PACKAGE)]
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    frames_of_callback = [frame for frame in outside if frame.filename == file]
    last = (frames_of_callback or outside[:1] or frames)[-1]
    return f"{last.filename}:{last.lineno}"


class ReportForwarder(Callback):
    """Forwards events to the parent process of the ranks, which has the user's callbacks."""

    def __init__(self, reports: Reporter) -> None:
        self.reports = reports

    @override
    def on_start(self, start: Start) -> None:
        fields = attrs.asdict(start) | {"directory": str(start.directory)}
        self._told("on_start", start.step, fields)

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
    """A callback that calls several callbacks in order."""

    def __init__(self, several: Iterable[Callback]) -> None:
        self.several = tuple(several)

    @override
    def on_start(self, start: Start) -> None:
        """Call each callback."""
        for callback in self.several:
            callback.on_start(start)

    @override
    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Call each callback."""
        for callback in self.several:
            callback.on_step(step, metrics)

    @override
    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Call each callback."""
        for callback in self.several:
            callback.on_evaluation(step, metrics)

    @override
    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Call each callback."""
        for callback in self.several:
            callback.on_checkpoint(step, folder)

    @override
    def on_end(self, result: Result) -> None:
        """Call each callback."""
        for callback in self.several:
            callback.on_end(result)
