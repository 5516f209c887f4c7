"""A module of the tests as the program of several ranks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from gpt2dsl.cluster.supervisor import Node, Timeouts, free_port, supervise

ROOT = Path(__file__).parents[1]


def told_by(module: ModuleType, folder: Path, *, collective: float, ranks: int = 2) -> Any:
    """What a module that is given a JSON file's path has written there, run as so many ranks."""
    file = folder / "told.json"
    supervise(
        [sys.executable, "-m", module.__name__, str(file)],
        Node(ranks=ranks, local=ranks, port=free_port()),
        folder / "logs",
        Timeouts(collective=collective),
        environment={"PYTHONPATH": str(ROOT)},
    )
    return json.loads(file.read_text(encoding="utf-8"))
