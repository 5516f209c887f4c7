"""What a chain gave."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.chain.record import Record


@attrs.frozen(kw_only=True)
class StageResult:
    """What a stage gave, now or when it ran last.

    Attributes:
        number: from 1.
        task: its kind.
        ran: whether it ran now.
        directory: of its run; None where it has none.
        weights: those that it gives; None where it gives none.
        values: of its result, as result.json has them.
        text: its result, as people read it.
    """

    number: int
    task: str
    ran: bool
    directory: Path | None
    weights: Path | None
    values: Mapping[str, Any]
    text: str

    @classmethod
    def of(cls, found: Record, directory: Path | None, *, ran: bool) -> StageResult:
        """That of a record."""
        return cls(
            number=found.number,
            task=found.task,
            ran=ran,
            directory=directory,
            weights=Path(found.weights) if found.weights else None,
            values=found.result,
            text=found.text,
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "number": self.number,
            "task": self.task,
            "ran": self.ran,
            "directory": str(self.directory) if self.directory else None,
            "result": self.values,
        }


@attrs.frozen
class ChainResult:
    """What the stages of a chain gave, in their order."""

    stages: tuple[StageResult, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"stages": [stage.to_json() for stage in self.stages]}

    def __str__(self) -> str:
        lines = []
        for stage in self.stages:
            kept = "" if stage.ran else "   unchanged, not run again"
            lines.append(f"{stage.number} {stage.task}{kept}")
            lines += [f"  {line}" for line in stage.text.splitlines()]
        return "\n".join(lines)
