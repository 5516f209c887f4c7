"""Folders that hold no weights themselves, but runs or what a run left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2dsl.errors import InputError, some
from gpt2dsl.parts import TASKS
from gpt2dsl.weights import store

CHECKPOINTS = "checkpoints"
_PLAN, _STAGE = "plan.json", "stage.json"
_LATEST = 1 << 30
"""Order of a stage that has not finished, after all that have."""


def refuse(folder: Path) -> None:
    """Raise an error if a folder is of runs, of a chain, or of a run without weights.

    Raises:
        InputError: it names the weights that are near (G2-304).
    """
    if kind := _document(folder / _STAGE).get("task") or _document(folder / _PLAN).get("task"):
        raise InputError("G2-304", folder, _without_weights(folder, str(kind)))
    runs = {path.parent for path in folder.glob(f"*/{_PLAN}")}
    chains = {path.parents[1] for path in folder.glob(f"*/*/{_STAGE}")}
    if any(folder.glob(f"*/{_STAGE}")):
        raise _refusal(folder, "the folder of a chain", "a stage of it", list(_stages(folder)))
    if runs or chains:
        newest = sorted(runs | chains, key=_age)
        names = [run.name for run in newest if _has_checkpoint(run)]
        raise _refusal(folder, "a folder of runs", "one of them", names)


def _refusal(folder: Path, what: str, member: str, names: list[str]) -> InputError:
    cure = f"name {member}: {some(names)}" if names else "none of them has weights"
    return InputError("G2-304", folder, f"it is {what}; {cure}")


def _without_weights(folder: Path, kind: str) -> str:
    """Return why a run has no weights, and where there are some."""
    if kind in TASKS and TASKS[kind].trains:
        return f"it is a run of {kind}, which has not written a checkpoint"
    if weights := _document(folder / _STAGE).get("weights"):
        return f"it is a stage of {kind}; its weights are {weights}"
    read = _document(folder / _PLAN).get("inputs") or []
    names = [item["name"] for item in read if item.get("key") in ("model.weights", "task.source")]
    cure = f"; those that it read are {names[0]}" if names else ""
    return f"it is a run of {kind}, which leaves no weights{cure}"


def _stages(folder: Path) -> Iterator[str]:
    """Yield the stages of a chain that have weights, the last one first."""
    runs = {path.parent for name in (_STAGE, _PLAN) for path in folder.glob(f"*/{name}")}
    for run in sorted(runs, key=lambda run: (-_number(run), run.name)):
        weights = _document(run / _STAGE).get("weights")
        if _has_checkpoint(run):
            yield run.name
        elif weights and Path(weights).exists():
            yield str(weights)


def _number(run: Path) -> int:
    number = _document(run / _STAGE).get("number")
    return number if isinstance(number, int) else _LATEST


def _has_checkpoint(run: Path) -> bool:
    """Return whether a run, or a stage of a chain, has a checkpoint."""
    return any(store.steps(place) for place in (run / CHECKPOINTS, *run.glob(f"*/{CHECKPOINTS}")))


def _age(run: Path) -> tuple[float, str]:
    """Return a key that sorts the newest run first."""
    return -max(path.stat().st_mtime for path in (run, *run.iterdir())), run.name


def _document(path: Path) -> dict[str, Any]:
    """Return a JSON object; {} where it is absent or damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
