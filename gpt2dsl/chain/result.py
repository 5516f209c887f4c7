"""The result of a chain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.chain.record import Record
from gpt2dsl.notebook import ShownAsText


@attrs.frozen(kw_only=True)
class StageResult:
    """The result of a stage, of this run or of an earlier one.

    Attributes:
        number: its number, from 1.
        task: the kind of its task.
        ran: whether it ran this time.
        directory: its run directory; None where it has none.
        weights: path of the weights that it outputs; None where it outputs none.
        values: the values of its result, as in result.json.
        text: its result as readable text.
    """

    number: int
    task: str
    ran: bool
    directory: Path | None
    weights: Path | None
    values: Mapping[str, Any]
    text: str

    @classmethod
    def of(cls, record: Record, directory: Path | None, *, ran: bool) -> StageResult:
        """Return the result that a record describes."""
        return cls(
            number=record.number,
            task=record.task,
            ran=ran,
            directory=directory,
            weights=Path(record.weights) if record.weights else None,
            values=record.result,
            text=record.text,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {
            "number": self.number,
            "task": self.task,
            "ran": self.ran,
            "directory": str(self.directory) if self.directory else None,
            "result": self.values,
        }


@attrs.frozen(repr=False)
class ChainResult(ShownAsText):
    """The results of the stages of a chain, in order."""

    stages: tuple[StageResult, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {"stages": [stage.to_json() for stage in self.stages]}

    def __repr__(self) -> str:
        tasks = ", ".join(stage.task for stage in self.stages)
        return f"<ChainResult of {tasks}; print() shows it>"

    def __str__(self) -> str:
        lines = []
        for stage in self.stages:
            suffix = "" if stage.ran else "   unchanged, not run again"
            lines.append(f"{stage.number} {stage.task}{suffix}")
            lines += [f"  {line}" for line in stage.text.splitlines()]
        return "\n".join(lines)
