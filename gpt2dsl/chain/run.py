"""Execution of a chain, stage after stage."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gpt2dsl.chain import record
from gpt2dsl.chain.chain import Chain, at
from gpt2dsl.chain.plan import ChainPlan, Stage, are_own, next_stage, targets_of
from gpt2dsl.chain.record import Record
from gpt2dsl.chain.result import ChainResult, StageResult
from gpt2dsl.engine.progress import say
from gpt2dsl.errors import FileError, Interrupted, RunError, SpecError
from gpt2dsl.files import atomic, lock
from gpt2dsl.plan import serving

if TYPE_CHECKING:
    from gpt2dsl.engine.callbacks import Callback
    from gpt2dsl.engine.job import Result


def run(
    plan: ChainPlan, chain: Chain, resume_command: str, callbacks: Sequence[Sequence[Callback]]
) -> ChainResult:
    """Run a chain with the callbacks of each stage; otherwise as ``ChainPlan.run``."""
    _refuse(plan)
    if plan.stages[-1].plan.serves:
        serving.refuse_event_loop()
    folder = Path(plan.directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError.unwritable(folder, error) from error
    with ExitStack() as exclusive:
        exclusive.enter_context(lock.alone(folder))
        return _run(chain, resume_command, callbacks, exclusive.close)


def _run(
    chain: Chain,
    resume_command: str,
    callbacks: Sequence[Sequence[Callback]],
    release: Callable[[], None],
) -> ChainResult:
    """Run the stages in order; a server writes nothing, so the lock is released before it."""
    _put_back(chain)
    done: list[Stage] = []
    results = []
    for number in range(1, len(chain) + 1):
        with _named(number, len(chain)):
            stage = next_stage(chain, done, prepare=True, thorough=True)
            entry = stage.record
            if stage.plan.serves:
                release()
            if entry is None:
                say(f"stage {number} of {len(chain)}, {stage.plan.task}: {stage.why}")
                entry = _carried_out(stage, done, resume_command, callbacks[number - 1])
            record.settle(stage.directory.parent, stage.targets, stage.author)
        directory = None if stage.plan.serves else stage.directory
        results.append(StageResult.of(entry, directory, ran=stage.record is None))
        done.append(attrs.evolve(stage, record=entry, state="="))
    return ChainResult(tuple(results))


def _put_back(chain: Chain) -> None:
    """Restore the old targets that a killed process had moved aside."""
    for recipe in chain.recipes:
        for target in targets_of(recipe.completed):
            atomic.sweep(target.absolute().parent)


def _refuse(plan: ChainPlan) -> None:
    """Refuse the inputs of all stages before the first one runs."""
    faults = [
        at(stage.number, fault)
        for stage in plan.stages
        if stage.state != "="
        for fault in stage.prepared().refusals()
    ]
    if faults:
        raise SpecError(faults)
    for stage in plan.stages:
        if stage.state != "=":
            with _named(stage.number, len(plan.stages)):
                stage.plan.require_room()


def _carried_out(
    stage: Stage, done: Sequence[Stage], resume_command: str, callbacks: Sequence[Callback]
) -> Record:
    with _replacing(stage), record.claiming(stage.directory, stage.targets, stage.author):
        result = stage.plan.run(resume_command=resume_command, callbacks=callbacks)
        entry = _left(stage, done, result)
        if not stage.plan.serves:  # a server never finishes
            entry.write(stage.directory)
    return entry


def _left(stage: Stage, done: Sequence[Stage], result: Result) -> Record:
    weights, outputs = _outputs(stage, result)
    giver = done[stage.takes - 1].record if stage.takes else None
    try:
        files = record.traces(outputs)
    except OSError as error:
        raise FileError.unreadable(error.filename, error) from error
    return Record(
        number=stage.number,
        task=stage.plan.task,
        key=stage.key,
        taken=giver.output_digest if giver else "",
        files=files,
        weights=str(weights or ""),
        result=result.to_json(),
        text=str(result),
        author=stage.author,
    )


def _outputs(stage: Stage, result: Result) -> tuple[Path | None, list[Path]]:
    """Return the output weights of a stage, if any, and all its output paths."""
    if weights := result.best or result.checkpoint:
        return weights, [weights]
    if result.target:
        return (result.target if stage.promise else None), list(stage.targets)
    return None, [] if stage.plan.serves else [stage.directory / "result.json"]


@contextmanager
def _replacing(stage: Stage) -> Iterator[None]:
    """Move earlier outputs of the chain aside; restore those not replaced if the block fails."""
    present = [target for target in stage.targets if os.path.lexists(target)]
    if not are_own(present, stage.writers()):  # the stage refuses to replace files of others
        yield
        return
    with ExitStack() as stack:
        moved = {target: stack.enter_context(atomic.neighbour(target, "old")) for target in present}
        for target, old in moved.items():
            target.rename(old)
        try:
            yield
        except BaseException:
            for target, old in moved.items():
                if not target.exists():
                    old.rename(target)
            raise


@contextmanager
def _named(number: int, count: int) -> Iterator[None]:
    """Add the number of the stage to errors."""
    try:
        yield
    except SpecError as error:
        raise SpecError([at(number, fault) for fault in error.faults]) from error
    except Interrupted:
        raise
    except RunError as error:
        raise RunError(
            error.code, f"stage {number} of {count}: {error.message}", error.hint
        ) from error
