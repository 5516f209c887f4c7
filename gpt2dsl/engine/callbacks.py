"""Callbacks: the interface of user code to a training run."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from typing_extensions import override

from gpt2dsl.errors import Fault, RunError, SpecError, did_you_mean
from gpt2dsl.notebook import ShownAsCode, ShownAsText
from gpt2dsl.parts.base import PACKAGE, caller, place

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

    Raises:
        SpecError: a subclass has a method ``on_...`` that is no hook, or that can't be called as
            its hook is.
    """

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        faults = [
            fault
            for name, member in vars(cls).items()
            if name.startswith("on_")
            for fault in _faults_of_hook(cls, name, member)
        ]
        if faults:
            raise SpecError(faults)

    def __repr__(self) -> str:
        hooks = [
            name for name in _HOOKS if getattr(type(self), name) is not getattr(Callback, name)
        ]
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__}: {', '.join(hooks) or 'told of nothing'}>"

    def on_start(self, start: Start) -> None:
        """Run before the first step, once the weights and the data are loaded."""

    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Run after an optimizer step.

        Metrics are loss, lr, gradient_norm, tokens_per_second, mfu and loss_scale, as far as known.
        """

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Run after an evaluation, with eval_loss and related metrics."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Run after a checkpoint is complete."""

    def on_end(self, result: Result) -> None:
        """Run after the last step, once the report is written."""


_HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


def _faults_of_hook(cls: type, name: str, member: Any) -> Iterator[Fault]:
    """Yield the fault of a method that would never be called, or not as its hook is."""
    function = inspect.unwrap(getattr(member, "__func__", member))
    code = getattr(function, "__code__", None)
    origin = place(code.co_filename, code.co_firstlineno) if code else caller()
    key = f"{cls.__qualname__}.{name}"
    if name not in _HOOKS:
        message = f"no hook has this name{did_you_mean(name, _HOOKS) or '; rename it'}"
        yield Fault("G2-101", origin, key, f"{message}; the hooks are {', '.join(_HOOKS)}")
        return
    arguments = list(inspect.signature(getattr(Callback, name)).parameters)[1:]
    expected = f"expected a method {name}(self, {', '.join(arguments)})"
    if not callable(getattr(cls, name)):
        yield Fault("G2-201", origin, key, f"{expected}, found {member!r}")
    elif inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        kind = "async" if inspect.iscoroutinefunction(function) else "a generator"
        message = f"{expected}, found one that is {kind}, which never runs"
        yield Fault("G2-201", origin, key, message)
    elif not _takes(cls, member, len(arguments)):
        found = f"{name}{inspect.signature(function)}"
        yield Fault("G2-201", origin, key, f"{expected}, found {found}")


def _takes(cls: type, member: Any, count: int) -> bool:
    """Return whether a method of a class can be called with so many positional arguments."""
    bound = member.__get__(object(), cls) if hasattr(member, "__get__") else member
    try:
        signature = inspect.signature(bound)
    except (TypeError, ValueError):  # some builtins have none
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def checked(listed: Any, key: str) -> tuple[Callback, ...]:
    """Return a list of callbacks as a tuple.

    Raises:
        SpecError: it is no list of callbacks.
    """
    wrong = (
        [listed]
        if not isinstance(listed, list | tuple)
        else [each for each in listed if isinstance(each, type) or not isinstance(each, Callback)]
    )
    if wrong:
        message = (
            f"expected a list of objects of subclasses of gpt2dsl.Callback, found {wrong[0]!r}"
        )
        raise SpecError([Fault("G2-201", "", key, message)])
    return tuple(listed)


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
