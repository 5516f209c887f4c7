"""A command carried out in this process, and what became of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from safetensors.numpy import load_file
from typing_extensions import override

from gpt2dsl.cli.main import main

NOT_COMPARED = ("tokens_per_second", "mfu", "directory", "checkpoint", "notes")
"""Keys of results that say where, how fast, and what of a recipe has no effect."""

DIGEST = 8
"""Characters of a digest in a directory's name."""

DIRECTORY = re.compile(rf"(\S+-[0-9a-f]{{{DIGEST}}})$", re.MULTILINE)
"""A run's directory at the end of a line."""


@attrs.frozen
class Outcome:
    """What a command ended with.

    Attributes:
        code: its exit code.
        text: everything that it printed.
        results: file relative to the project → what it says.
    """

    code: int
    text: str
    results: dict[str, Any] = attrs.field(factory=dict, repr=False)


class _Watched(io.StringIO):
    """Keeps what is written; Ctrl-C comes where a text is."""

    def __init__(self, pause: str) -> None:
        super().__init__()
        self._pause = pause

    @override
    def write(self, text: str) -> int:
        if self._pause and self._pause in text:
            self._pause = ""
            signal.raise_signal(signal.SIGINT)
        return super().write(text)


def run(folder: Path, *words: str, pause: str = "") -> Outcome:
    """Run a command in a project.

    Args:
        folder: the project.
        words: the command.
        pause: a text at which Ctrl-C comes, the first time that it is printed.
    """
    stream = _Watched(pause)
    with _inside(folder), contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        before, sys.argv = sys.argv, ["gpt2dsl", *words]
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        finally:
            sys.argv = before
    text = stream.getvalue()
    return Outcome(code, text, dict(results(folder, set(DIRECTORY.findall(text)))))


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def results(folder: Path, directories: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Give what runs left in a project, file by file.

    Args:
        folder: the project.
        directories: of the runs that were told of, whose digests are left out: a run that goes on
            where its inputs were moved keeps the directory of the name that it began with.
    """
    told = {f"{directory}/": f"{directory[:-DIGEST]}/" for directory in directories}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        name = str(place)
        for directory, nameless in told.items():
            name = name.replace(directory, nameless)
        inside = place.parts[0] in ("runs", "elsewhere", "out", "merged", "graphs")
        if not inside or not path.is_file() or "optimizer" in path.name:
            continue
        if path.name == "attempts.jsonl":  # when and how often it ran, not what came out
            continue
        if path.suffix == ".safetensors":
            yield name, load_file(path)
        elif path.name in ("result.json", "before.json", "after.json", "metrics.jsonl"):
            lines = [json.loads(line) for line in _documents(path)]
            yield name, [_compared(line) for line in lines]
        elif path.suffix == ".mindir":
            yield name, _mind_ir(path)
        elif path.name == "manifest.json" and place.parts[0] == "graphs":
            manifest = json.loads(path.read_text())
            files = manifest["files"]
            manifest["files"] = {file: files[file] for file in files if ".mindir" not in file}
            yield name, manifest
        elif place.parts[0] in ("out", "merged", "graphs") or path.suffix in (".txt", ".jsonl"):
            yield name, path.read_bytes()


def _mind_ir(path: Path) -> list[Any]:
    """Return the operators and constants of a graph: MindSpore names them otherwise each time."""
    from mindspore.train.mind_ir_pb2 import ModelProto  # noqa: PLC0415  # MindSpore starts slowly

    graph = ModelProto.FromString(path.read_bytes()).graph
    operators = [node.op_type.rpartition(":")[0] for node in graph.node]
    return [*operators, *(tensor.raw_data for tensor in graph.parameter)]


def _documents(path: Path) -> list[str]:
    content = path.read_text()
    return content.splitlines() if path.suffix == ".jsonl" else [content]


def _compared(document: Any) -> Any:
    if not isinstance(document, dict):
        return document
    return {key: value for key, value in document.items() if key not in NOT_COMPARED}


def differing(expected: dict[str, Any], actual: dict[str, Any], tolerance: float) -> list[str]:
    """Return the files of one result that the other lacks or has otherwise."""
    return [
        place
        for place, value in expected.items()
        if place not in actual or not _equal(value, actual[place], tolerance)
    ]


def _equal(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            _equal(one[key], other[key], tolerance) for key in one
        )
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and bool(
            np.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(
            _equal(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, float) and isinstance(other, float):
        return bool(np.isclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True))
    return bool(one == other)
