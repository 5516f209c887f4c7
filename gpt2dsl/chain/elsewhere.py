"""Runs outside of a chain that have carried out what a stage is to do: it takes their weights."""

from __future__ import annotations

from pathlib import Path

from gpt2dsl.chain.key import Key
from gpt2dsl.chain.record import Record, Trace
from gpt2dsl.errors import InputError
from gpt2dsl.library import runs
from gpt2dsl.plan import directory
from gpt2dsl.weights import store


def carried_out(output: Path, number: int, task: str, key: Key) -> Record | None:
    """Return the record that a stage would have left, of a finished training with the same key.

    Args:
        output: the folder under which each run has its own.
        number: of the stage.
        task: its kind.
        key: what decides its result; a stage that takes weights of another is carried out here.
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


def _record(folder: Path, number: int, task: str, key: Key) -> Record | None:
    """Return the record of a run; None where it has not come to its end.

    Raises:
        InputError: its checkpoint or its files are damaged.
    """
    run, result = runs.read(folder), runs.result(folder)
    if run.state != "done" or result is None:
        return None
    weights = folder / "checkpoints" / Path(result.get("best") or result["checkpoint"]).name
    store.verify(weights, contents=False)
    manifest = weights / store.MANIFEST
    sealed = manifest.stat().st_mtime_ns  # what changed later has to be read
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
