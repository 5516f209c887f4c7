"""Run directories on disk: what ran, its progress and its results."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import attrs

from gpt2dsl.errors import InputError
from gpt2dsl.files import lock
from gpt2dsl.identity.identity import Identity

State = Literal["done", "stopped", "not started", "running", "damaged"]
Document = Mapping[str, Any]

_PLAN, _RECIPE, _METRICS, _RESULT = "plan.json", "recipe.toml", "metrics.jsonl", "result.json"
_DIGEST = re.compile(r"(?<=.)-[0-9a-f]{8}\Z")
_TAIL = 1 << 16
"""Bytes read from the end of metrics.jsonl to tell the progress: some 400 steps."""
_RECENT = 20
"""Steps over which the training loss is averaged, as in the result of a run."""


@attrs.frozen(kw_only=True)
class Run:
    """A run directory. Fields that do not apply to its task, or are damaged, are None or "".

    Attributes:
        state: done, stopped, not started, running or damaged; a stopped run has no result, or an
            outdated one; a training that has not started was refused, or ended before its first
            step could begin.
        steps: number of optimizer steps done, of ``planned``.
        loss: loss of the result; of the last training steps if the run is not done.
        loss_of: data of that loss: ``held out``, or ``training``.
        tokens_per_second: speed of the result; of the last training steps if the run is not done.
        modified: modification time of its newest file, in seconds since 1970.
        problem: description of the damage.
    """

    path: Path
    state: State
    task: str = ""
    digest: str = ""
    steps: int | None = None
    planned: int | None = None
    loss: float | None = None
    loss_of: str = ""
    perplexity: float | None = None
    tokens_per_second: float | None = None
    modified: float | None = None
    problem: str = ""

    def __str__(self) -> str:
        if self.state == "damaged":
            return f"damaged: {self.problem}"
        if self.state == "done" and self.steps and self.steps < (self.planned or 0):
            return f"done early, at step {self.steps:,} of {self.planned:,}"
        if self.state == "done" or self.steps is None:
            return self.state
        total = "" if self.planned is None else f" of {self.planned:,}"
        return f"{self.state} at step {self.steps:,}{total}"


def below(folder: Path) -> list[Run]:
    """Return the runs in a folder and its subfolders, damaged ones included, newest last.

    Raises:
        InputError: the folder does not exist (G2-301), or is a file (G2-304).
    """
    if _written(folder) is None:
        raise InputError("G2-301", folder, "there is no such folder")
    if not folder.is_dir():
        raise InputError("G2-304", folder, "it is no folder")
    return sorted(map(look, _directories(folder)), key=lambda run: (run.modified or 0, run.path))


def look(path: Path) -> Run:
    """Return a run; a damaged one has state ``damaged``."""
    try:
        return read(path)
    except InputError as error:
        (fault,) = error.faults
        problem = f"{Path(fault.key).name}: {fault.message}"
        return Run(path=path, state="damaged", problem=problem, modified=_modified(path))


def read(path: Path) -> Run:
    """Return a run.

    Raises:
        InputError: a required file is absent (G2-301), or a file is damaged (G2-304).
    """
    if _written(path / _RECIPE) is None:
        raise InputError("G2-301", path / _RECIPE, "it is absent")
    described, outcome = plan(path), result(path)
    lines = None if _written(path / _METRICS) is None else _tail(path)
    planned = count(described, "batches", "steps") or None
    finished = _finished(outcome, lines, planned)
    begun = lines is not None or not planned  # a training begins with its metrics
    state: State = "done" if finished else "stopped" if begun else "not started"
    state = "running" if lock.is_held(path) else state
    now = outcome if outcome and state == "done" else _interim(lines)
    return Run(
        path=path,
        state=state,
        task=described["task"],
        digest=str(described.get("digest", "")),
        steps=count(now, "steps"),
        planned=planned,
        loss=number(now, "loss"),
        loss_of=_loss_of(now),
        perplexity=number(now, "perplexity"),
        tokens_per_second=number(now, "tokens_per_second"),
        modified=_modified(path),
    )


def stem(path: Path) -> Path:
    """Return the path of a run without the digest in its name."""
    return path.with_name(_DIGEST.sub("", path.name))


def newest(wanted: Path) -> Path | None:
    """Return the run that started last among those whose path differs only by the digest."""
    try:
        started = [
            (time, path)
            for path in wanted.parent.iterdir()
            if path != wanted
            and stem(path) == wanted
            and (time := _written(path / _PLAN)) is not None
        ]
    except OSError:
        return None
    return max(started, default=(0, None))[1]


def is_run(path: Path) -> bool:
    """Return whether a folder has a file of a run, possibly a damaged one."""
    return _modified(path) is not None


def recipe(path: Path) -> Path:
    return path / _RECIPE


def plan(path: Path) -> Document:
    """Return a run's ``plan.json``.

    Raises:
        InputError: it is absent (G2-301) or damaged (G2-304).
    """
    return document(path / _PLAN)


def identity(described: Document) -> Identity | None:
    """Return the identity in a run's plan; None for releases before 0.2, which recorded none."""
    try:
        return Identity.from_json(described.get("identity"))
    except ValueError:
        return None


def result(path: Path) -> Document | None:
    """Return a run's ``result.json``; None if it does not exist yet.

    Raises:
        InputError: it is damaged (G2-304).
    """
    return None if _written(path / _RESULT) is None else document(path / _RESULT)


def metrics(path: Path) -> list[Document]:
    """Return the lines of a run's ``metrics.jsonl``, without a truncated last line.

    Raises:
        InputError: a line is damaged (G2-304).
    """
    return _lines(path, start=0)


def number(document: Document, *keys: str) -> float | None:
    """Return a number from nested tables; None if it is missing or of another type."""
    value = _value(document, keys)
    return value if type(value) in (int, float) else None


def count(document: Document, *keys: str) -> int | None:
    """Return an integer from nested tables; None if it is missing or of another type."""
    value = _value(document, keys)
    return value if type(value) is int else None


def _value(document: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def _directories(folder: Path) -> Iterator[Path]:
    # `plan --out plan.json` may leave a plan in the working directory: that alone is no run.
    if all(_written(folder / name) is not None for name in (_PLAN, _RECIPE)):
        yield folder
    for name, folders, _ in os.walk(folder):
        folders[:] = [sub for sub in folders if sub != "checkpoints" and not sub.startswith(".")]
        yield from (path for sub in folders if is_run(path := Path(name, sub)))


def document(path: Path) -> Document:
    """Return a JSON document with a task: a plan or a result.

    Raises:
        InputError: it is absent (G2-301) or damaged (G2-304).
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError("G2-301", path, "it is absent") from None
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("task"), str):
        raise InputError("G2-304", path, "it is damaged")
    return content


def _tail(path: Path) -> list[Document]:
    try:
        size = (path / _METRICS).stat().st_size
    except OSError:
        size = 0
    return _lines(path, start=max(0, size - _TAIL))


def _lines(path: Path, *, start: int) -> list[Document]:
    """Return the complete lines of metrics.jsonl from a byte offset on."""
    file = path / _METRICS
    try:
        with file.open("rb") as stream:
            stream.seek(start)
            lines = stream.read().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError("G2-304", file, f"it can't be read: {error.strerror}") from None
    return [_line(file, line) for line in lines[1 if start else 0 : -1]]


def _line(file: Path, line: bytes) -> Document:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or type(content.get("step")) is not int:
        shown = ascii(line[:40].decode("utf-8", "replace"))
        raise InputError("G2-304", file, f"it is damaged: a line is {shown}")
    return content


def _finished(
    outcome: Document | None, lines: Sequence[Document] | None, planned: int | None
) -> bool:
    """Return whether the result belongs to these steps: a new start leaves the old one."""
    if outcome is None:
        return False
    steps = count(outcome, "steps") or 0
    is_complete = outcome.get("stopped_early") is True or steps >= (planned or 0)
    return is_complete and (lines is None or _step(lines) >= steps)


def _step(lines: Sequence[Document]) -> int:
    return lines[-1]["step"] if lines else 0


def _interim(lines: Sequence[Document] | None) -> Document:
    """Return the fields of a result so far, from training metrics."""
    if lines is None:
        return {}
    losses = [value for line in lines if (value := number(line, "loss")) is not None][-_RECENT:]
    speeds = [rate for line in lines if (rate := number(line, "tokens_per_second")) is not None]
    return {
        "steps": _step(lines),
        "loss": sum(losses) / len(losses) if losses else None,
        "tokens_per_second": median(speeds[1:] or speeds) if speeds else None,
    }


def _loss_of(outcome: Document) -> str:
    """Return the data of a result's loss: results on held-out data have more metrics."""
    if number(outcome, "loss") is None:
        return ""
    is_held_out = any(key in outcome for key in ("perplexity", "tokens", "scores"))
    return "held out" if is_held_out else "training"


def _modified(path: Path) -> float | None:
    times = map(_written, (path / name for name in (_PLAN, _RECIPE, _METRICS, _RESULT)))
    return max((time for time in times if time is not None), default=None)


def _written(file: Path) -> float | None:
    """Return the modification time of a file; None if it is missing or inaccessible."""
    try:
        return file.stat().st_mtime
    except OSError:
        return None
