"""Reuse of a finished run outside the chain whose key is that of a stage."""

from __future__ import annotations

from pathlib import Path

from gpt2dsl.chain.key import StageKey
from gpt2dsl.chain.record import Record, Trace
from gpt2dsl.errors import InputError
from gpt2dsl.library import runs
from gpt2dsl.plan import directory
from gpt2dsl.weights import store


def carried_out(output: Path, number: int, task: str, key: StageKey) -> Record | None:
    """Return the record of a finished training run that has the key of a stage, or None.

    A stage that takes the weights of another is never looked up elsewhere.
    """
    if key.taken or key.identity.is_pending:
        return None
    for plan in sorted(output.glob("*/plan.json"), key=lambda path: -path.stat().st_mtime_ns):
        if directory.recorded(plan.parent) == key.identity:
            try:
                return _record(plan.parent, number, task, key)
            except (InputError, OSError, KeyError, TypeError):
                continue
    return None


def _record(folder: Path, number: int, task: str, key: StageKey) -> Record | None:
    """Return the record of a run, None if it is unfinished.

    Raises:
        InputError: its checkpoint or its files are corrupt.
    """
    run, result = runs.read(folder), runs.result(folder)
    if run.state != "done" or result is None:
        return None
    weights = folder / "checkpoints" / Path(result.get("best") or result["checkpoint"]).name
    store.verify(weights, contents=False)
    manifest = weights / store.MANIFEST
    sealed = manifest.stat().st_mtime_ns  # a file changed later must be read again
    files = {
        str(path): Trace(known["size"], min(path.stat().st_mtime_ns, sealed), known["xxh3"])
        for name, known in store.manifest(weights)["files"].items()
        if (path := weights / name)
    }
    figures = {"perplexity": run.perplexity, "loss": run.loss}
    lines = [f"{name:<12}{value:,.4f}" for name, value in figures.items() if value is not None]
    return Record(
        number=number,
        task=task,
        key=key,
        taken="",
        files={**files, str(manifest): Trace.of(manifest)},
        weights=str(weights),
        result=result,
        text="\n".join([*lines, f"checkpoint  {weights}", f"run         {folder}"]),
    )
