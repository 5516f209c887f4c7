"""Run directories as they lie on disk: what ran, how far it came, what it gave."""

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

State = Literal["done", "stopped", "running", "damaged"]
Document = Mapping[str, Any]

_PLAN, _RECIPE, _METRICS, _RESULT = "plan.json", "recipe.toml", "metrics.jsonl", "result.json"
_DIGEST = re.compile(r"(?<=.)-[0-9a-f]{8}\Z")
_TAIL = 1 << 16
"""Bytes of metrics.jsonl that tell where a run is: some 400 steps, however many there are."""
_RECENT = 20
"""Steps over which the loss of a run without held-out text is the mean, as in its result."""


@attrs.frozen(kw_only=True)
class Run:
    """A run directory. What its task has no use for, or what is damaged, is None or "".

    Attributes:
        path: the directory.
        state: a stopped run has no result, or one of before it was started anew.
        task: its kind.
        digest: of the recipe, as it was planned.
        steps: optimizer steps that were done.
        planned: optimizer steps that there are to do.
        loss: of the result; of the last training steps where it is not done.
        loss_of: what that loss is of: ``held out``, or ``training``.
        perplexity: of the result.
        tokens_per_second: of the result; of the last training steps where it is not done.
        modified: when its newest file was written, in seconds since 1970.
        problem: what is damaged.
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
        of = "" if self.planned is None else f" of {self.planned:,}"
        return f"{self.state} at step {self.steps:,}{of}"


def below(folder: Path) -> list[Run]:
    """Return the runs in a folder and in its folders, whole or not, the newest last.

    Raises:
        InputError: there is no such folder (G2-301), or it is none (G2-304).
    """
    if _written(folder) is None:
        raise InputError("G2-301", folder, "there is no such folder")
    if not folder.is_dir():
        raise InputError("G2-304", folder, "it is no folder")
    return sorted(map(look, _directories(folder)), key=lambda run: (run.modified or 0, run.path))


def look(path: Path) -> Run:
    """Return a run that may be damaged."""
    try:
        return read(path)
    except InputError as error:
        (fault,) = error.faults
        problem = f"{Path(fault.key).name}: {fault.message}"
        return Run(path=path, state="damaged", problem=problem, modified=_modified(path))


def read(path: Path) -> Run:
    """Return a run.

    Raises:
        InputError: a file that every run has is absent (G2-301), or one is damaged (G2-304).
    """
    if _written(path / _RECIPE) is None:
        raise InputError("G2-301", path / _RECIPE, "it is absent")
    described, given = plan(path), result(path)
    lines = None if _written(path / _METRICS) is None else _tail(path)
    planned = count(described, "batches", "steps") or None
    finished = _finished(given, lines, planned)
    state: State = "running" if lock.is_held(path) else "done" if finished else "stopped"
    now = given if given and state == "done" else _interim(lines)
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
    """Return the run that started last among those that a name without its digest may mean.

    Args:
        wanted: ``runs/quickstart`` for ``runs/quickstart-0c66bb14`` and its like.
    """
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
    """Return whether a folder has a file of a run; it may be damaged."""
    return _modified(path) is not None


def recipe(path: Path) -> Path:
    """Return the spec of a run's recipe."""
    return path / _RECIPE


def plan(path: Path) -> Document:
    """Return a run's ``plan.json``.

    Raises:
        InputError: it is absent (G2-301) or damaged (G2-304).
    """
    return document(path / _PLAN)


def identity(described: Document) -> Identity | None:
    """What decides the result of a run, by its plan; releases before 0.2 recorded nothing."""
    try:
        return Identity.from_json(described.get("identity"))
    except ValueError:
        return None


def result(path: Path) -> Document | None:
    """Return a run's ``result.json``; None where there is none yet.

    Raises:
        InputError: it is damaged (G2-304).
    """
    return None if _written(path / _RESULT) is None else document(path / _RESULT)


def metrics(path: Path) -> list[Document]:
    """Return the lines of a run's ``metrics.jsonl``; one that is cut short is left out.

    Raises:
        InputError: one is damaged (G2-304).
    """
    return _lines(path, start=0)


def number(document: Document, *keys: str) -> float | None:
    """Return the number in tables of tables; None where there is none, or something else."""
    value = _value(document, keys)
    return value if type(value) in (int, float) else None


def count(document: Document, *keys: str) -> int | None:
    """Return the whole number in tables of tables; None where there is none, or something else."""
    value = _value(document, keys)
    return value if type(value) is int else None


def _value(document: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def _directories(folder: Path) -> Iterator[Path]:
    # `plan --out plan.json` may have left a plan where the user works: that alone is no run.
    if all(_written(folder / name) is not None for name in (_PLAN, _RECIPE)):
        yield folder
    for name, folders, _ in os.walk(folder):
        folders[:] = [one for one in folders if one != "checkpoints" and not one.startswith(".")]
        yield from (path for one in folders if is_run(path := Path(name, one)))


def document(path: Path) -> Document:
    """Return a plan, or what else has a task, as JSON.

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
    """Return the whole lines of metrics.jsonl from a byte on."""
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
    given: Document | None, lines: Sequence[Document] | None, planned: int | None
) -> bool:
    """Whether a result is there and is the one of these steps: a new start leaves the old one."""
    if given is None:
        return False
    steps = count(given, "steps") or 0
    whole = given.get("stopped_early") is True or steps >= (planned or 0)
    return whole and (lines is None or _step(lines) >= steps)


def _step(lines: Sequence[Document]) -> int:
    return lines[-1]["step"] if lines else 0


def _interim(lines: Sequence[Document] | None) -> Document:
    """What a result would say so far, of training."""
    if lines is None:
        return {}
    losses = [one for line in lines if (one := number(line, "loss")) is not None][-_RECENT:]
    speeds = [one for line in lines if (one := number(line, "tokens_per_second")) is not None]
    return {
        "steps": _step(lines),
        "loss": sum(losses) / len(losses) if losses else None,
        "tokens_per_second": median(speeds[1:] or speeds) if speeds else None,
    }


def _loss_of(given: Document) -> str:
    """What the loss of a result is of; that of held-out text has more beside it."""
    if number(given, "loss") is None:
        return ""
    is_held_out = any(key in given for key in ("perplexity", "tokens", "scores"))
    return "held out" if is_held_out else "training"


def _modified(path: Path) -> float | None:
    times = map(_written, (path / name for name in (_PLAN, _RECIPE, _METRICS, _RESULT)))
    return max((time for time in times if time is not None), default=None)


def _written(file: Path) -> float | None:
    """When a file was written; None where it is not there, or nobody may know."""
    try:
        return file.stat().st_mtime
    except OSError:
        return None
