"""Run directories made by hand, as a training run leaves them."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt2dsl import Recipe

SPEC = '[model]\nsize = "nano"\n\n[task]\nkind = "pretrain"\ndata = "sample:train"\n'


def make(
    path: Path,
    *,
    losses: Sequence[float] = (4.0, 3.0, 2.0),
    evaluations: Mapping[int, float] | None = None,
    planned: int = 3,
    done: bool = True,
    toml: str = SPEC,
    **plan: Any,
) -> Path:
    """A training run with one loss a step, and with a result if it is done."""
    path.mkdir(parents=True)
    described = {
        "digest": Recipe.from_toml(toml).digest,
        "task": "pretrain",
        "parameters": 100,
        "trained": 100,
        "inputs": [{"key": "task.data", "name": "a.txt", "state": "present", "digest": "a" * 64}],
        "batches": {"rows": 12, "steps": planned},
        **plan,
    }
    (path / "plan.json").write_text(json.dumps(described))
    (path / "recipe.toml").write_text(toml)
    lines: list[dict[str, float]] = [
        {"step": i, "loss": loss, "tokens_per_second": 1000.0} for i, loss in enumerate(losses, 1)
    ]
    lines += [{"step": step, "eval_loss": loss} for step, loss in (evaluations or {}).items()]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if done:
        given = {"task": "pretrain", "steps": planned, "loss": 2.5, "perplexity": 12.18}
        (path / "result.json").write_text(json.dumps({**given, "tokens_per_second": 2000.0}))
    return path


@contextmanager
def running(path: Path) -> Iterator[None]:
    """Another process at work in a run directory, as far as its lock tells."""
    with (path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
