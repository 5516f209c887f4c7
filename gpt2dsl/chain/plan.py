"""The plan of a chain: the stages to run, those that are up to date, and why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from gpt2dsl import terminal
from gpt2dsl.chain import elsewhere, record
from gpt2dsl.chain.chain import Chain, at
from gpt2dsl.chain.key import StageKey, key_of
from gpt2dsl.chain.record import Claim, Record
from gpt2dsl.chain.render import render
from gpt2dsl.data import documents
from gpt2dsl.errors import Fault, SpecError, counted
from gpt2dsl.files import cache
from gpt2dsl.notebook import ShownAsText
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.task import Conversion, Serve
from gpt2dsl.plan import inputs
from gpt2dsl.plan import plan as plans
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.faults import faults as every_fault
from gpt2dsl.plan.network import DeferredWeights, find_network
from gpt2dsl.plan.plan import Plan
from gpt2dsl.plan.promise import gives, promise, takes
from gpt2dsl.recipe import Recipe

if TYPE_CHECKING:
    from gpt2dsl.chain.result import ChainResult
    from gpt2dsl.engine.callbacks import Callback

State = Literal["=", "~", "+"]


@attrs.frozen(kw_only=True)
class Stage:
    """The plan of one stage.

    Attributes:
        takes: the number of the stage whose weights it takes; None where it takes none.
        state: ``=`` its output is verified and its key unchanged; ``~`` its key or its output has
            changed; ``+`` it never finished.
        directory: its run directory, possibly that of a run outside the chain with the same key.
        targets: the files that it writes outside its run directory.
        record: the record of its output, where its state is ``=``.
        promise: the known properties of the weights that it outputs; None where it outputs none.
        author: as in ``Record``.
    """

    number: int
    takes: int | None
    key: StageKey
    state: State
    why: str
    plan: Plan
    directory: Path
    targets: tuple[Path, ...]
    record: Record | None
    promise: DeferredWeights | None
    author: str

    def writers(self) -> list[Record | Claim]:
        """Return the records and unfinished claims that this chain has written."""
        return _writers(self.directory.parent, self.author)

    def prepared(self) -> Plan:
        """Return the plan with its inputs fetched and tokenized, where its weights exist."""
        if any(item.state == "promised" for item in self.plan.inputs):
            return self.plan
        return _with_targets(self.plan.prepared(), self.targets, self.writers())

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "takes": self.takes,
            "key": self.key.digest,
            "state": self.state,
            "why": self.why,
            "plan": self.plan.to_json(),
        }


@attrs.frozen(kw_only=True, repr=False)
class ChainPlan(ShownAsText):
    """The plan of a chain; ``directory`` is the parent of the run directories of its stages."""

    name: str
    digest: str
    stages: tuple[Stage, ...]
    directory: str
    _chain: Chain = attrs.field(repr=False, eq=False)

    def __repr__(self) -> str:
        words = f"{counted(len(self.stages), 'stage')}, digest {self.digest[:8]}"
        return f"<ChainPlan {self.name}: {words}; print() shows it>"

    def __str__(self) -> str:
        return render(self)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "digest": self.digest,
            "directory": self.directory,
            "stages": [stage.to_json() for stage in self.stages],
        }

    def to_json_text(self) -> str:
        return documents.dumps(self.to_json(), indent=2) + "\n"

    def why(self) -> list[tuple[str, Any, str]]:
        """Return the rows of ``Plan.why`` for all stages: ``stage.1.optim.lr``."""
        return [
            (f"stage.{stage.number}.{key}", value, origin)
            for stage in self.stages
            for key, value, origin in stage.plan.why()
        ]

    def refusals(self) -> tuple[Fault, ...]:
        """Return the faults for which check and run refuse the inputs of stages still to run."""
        return tuple(
            at(stage.number, fault)
            for stage in self.stages
            if stage.state != "="
            for fault in stage.plan.refusals()
        )

    def run(
        self,
        *,
        resume_command: str = "",
        callbacks: Sequence[Callback] = (),
        stage_callbacks: Sequence[Sequence[Callback]] = (),
        quiet: bool = False,
    ) -> ChainResult:
        """Run every stage whose verified output does not exist yet.

        Args:
            resume_command: the command with which a user resumes after an interruption.
            callbacks: the callbacks of every training stage.
            stage_callbacks: the callbacks of each stage; () for none.
            quiet: show no progress.

        Raises:
            SpecError: an input of any stage is missing or invalid; no stage has run.
            RunError: a stage failed; finished stages will not run again.
        """
        from gpt2dsl.chain.run import run  # noqa: PLC0415  # a chain is planned without engines

        with terminal.quietly(wanted=quiet):
            by_stage = [
                (*callbacks, *of_stage) for of_stage in stage_callbacks or [()] * len(self.stages)
            ]
            return run(self, self._chain, resume_command or "plan.run()", by_stage)


def make(chain: Chain, *, prepare: bool = False) -> ChainPlan:
    """Return the plan of a chain; arguments and errors as in ``Chain.plan``."""
    if wrong := list(_faults(chain, of_inputs=False)):
        raise SpecError(wrong)
    stages: list[Stage] = []
    for _ in chain.recipes:
        stages.append(_planned(chain, stages, prepare=prepare))  # each depends on those before it
    return ChainPlan(
        name=name_of(chain),
        digest=chain.digest,
        stages=tuple(stages),
        directory=str(_folder(chain, chain.recipes[0].completed)),
        chain=chain,
    )


def _planned(chain: Chain, before: Sequence[Stage], *, prepare: bool) -> Stage:
    """Plan the next stage; errors carry its number."""
    try:
        return next_stage(chain, before, prepare=prepare)
    except SpecError as error:
        raise SpecError([at(len(before) + 1, fault) for fault in error.faults]) from error


def faults(chain: Chain) -> tuple[Fault, ...]:
    """Return every fault of the complete recipes of a chain and of the inputs that they name."""
    return tuple(_faults(chain, of_inputs=True))


def _faults(chain: Chain, *, of_inputs: bool) -> Iterator[Fault]:
    promised: dict[int, DeferredWeights] = {}
    for number, recipe in enumerate(chain.recipes, 1):
        parts, weights = recipe.completed, None
        if takes(parts) and promised:
            giver = max(promised)
            weights = promised[giver]
            parts = _started(recipe, f"stage {giver}", giver).completed
        if number < len(chain) and isinstance(parts.task, Serve):
            message = "it serves until it is stopped: no stage can come after it"
            yield at(number, fault(parts, "G2-107", "task.kind", message))
        wrong = every_fault(parts, weights, of_inputs=of_inputs)
        folder = _folder(chain, parts)
        is_own = are_own(targets_of(parts), _writers(folder, _author(chain, folder)))
        yield from (
            at(number, fault)
            for fault in wrong
            if not (is_own and fault.code == "G2-308" and fault.key.startswith("task.target"))
        )
        if gives(parts):
            promised[number] = promise(
                parts, find_network(parts, promised=weights), f"stage {number}"
            )


def next_stage(
    chain: Chain, before: Sequence[Stage], *, prepare: bool, thorough: bool = False
) -> Stage:
    """Plan the stage after ``before`` and look up its recorded output.

    ``thorough`` verifies its outputs and inputs by reading them, however long that takes.
    """
    number, recipe = len(before) + 1, chain.recipes[len(before)]
    original = recipe.completed
    giver = (
        next((entry for entry in reversed(before) if entry.promise), None)
        if takes(original)
        else None
    )
    path = giver.record.weights if giver and giver.record else ""
    if giver:
        recipe = _started(recipe, path or f"stage {giver.number}", giver.number)
    if giver and isinstance(original.task, Serve) and not original.task.name:
        recipe = recipe.override({"task.name": (name_of(chain), "the chain")})
    parts, weights = recipe.completed, giver.promise if giver and not path else None
    assert parts.task is not None
    folder = _folder(chain, parts)
    plan = plans.make(
        parts,
        recipe.to_toml(),
        f"{name_of(chain)}-{number}-{parts.task.kind}",
        prepare=prepare and weights is None,
        promised=weights,
        directory=folder,  # its own depends on its key
    )
    key = key_of(original, plan, giver.key.digest if giver else "", compute=thorough)
    directory = folder / f"{parts.task.kind}-{key.digest[:8]}"
    plan = attrs.evolve(plan, digest=key.digest)
    if parts.task.has_directory:
        plan = attrs.evolve(plan, directory=str(directory))
    targets, records, author = targets_of(parts), record.below(folder), _author(chain, folder)
    own_records, writers = _own(records, author), _writers(folder, author)
    left = next((entry for entry in records if entry.key == key), None)
    wrong = _wrong(left, giver, thorough=thorough) if left else ""
    if wrong and are_own(targets, writers):
        wrong = f"{targets[0]} holds what it wrote with other values"
    is_done, why = left is not None and not wrong, ""
    if not is_done and parts.trains and not giver:
        other = elsewhere.carried_out(folder.parent, number, parts.task.kind, key)
        if other and not other.wrong(thorough=thorough):
            left, is_done, directory = other, True, Path(other.weights).parent.parent
            why = f"done already: {directory}"
    earlier = None if left else _earlier(own_records, number, plan.task, key)
    if not is_done:
        why = wrong or _why(key, earlier, directory, giver)
    if isinstance(parts.task, Serve):
        why = "it serves until it is stopped"
    return Stage(
        number=number,
        takes=giver.number if giver else None,
        key=key,
        state="=" if is_done else "~" if left or earlier else "+",
        why=why,
        plan=_with_targets(plan, targets, writers),
        directory=directory,
        targets=targets,
        record=left if is_done else None,
        promise=promise(parts, plan.network, f"stage {number}") if gives(parts) else None,
        author=author,
    )


def _own(records: Sequence[Record], author: str) -> list[Record]:
    """Return the records of this author: chains of the same name share a folder."""
    return [entry for entry in records if entry.author in ("", author)]


def _writers(folder: Path, author: str) -> list[Record | Claim]:
    """Return the records and unfinished claims of a chain in its folder."""
    claims = [claim for claim in record.claims(folder) if claim.author in ("", author)]
    return [*_own(record.below(folder), author), *claims]


def _author(chain: Chain, folder: Path) -> str:
    """Return the file that defines a chain, relative to its folder, as a project may be moved."""
    file, colon, name = chain.author.partition(":")
    return f"{os.path.relpath(file, folder)}{colon}{name}" if Path(file).exists() else chain.author


def _started(recipe: Recipe, weights: str, number: int) -> Recipe:
    """Return the recipe with the output of a stage as its initial weights."""
    return recipe.override({inputs.weights_key(recipe.completed): (weights, f"stage {number}")})


def _wrong(recorded: Record, giver: Stage | None, *, thorough: bool) -> str:
    """Return why a record with the key of a stage can't be reused, or ""."""
    if wrong := recorded.wrong(thorough=thorough):
        return wrong
    if giver is None:
        return ""
    if giver.record is None:
        return f"stage {giver.number} runs before it"
    return (
        ""
        if giver.record.output_digest == recorded.taken
        else f"stage {giver.number} gave other weights"
    )


def _earlier(records: Sequence[Record], number: int, task: str, key: StageKey) -> Record | None:
    """Return the record of the same task most like a stage, preferably of the same number."""
    return min(
        (entry for entry in records if entry.task == task),
        key=lambda entry: (
            entry.number != number,
            len(key.changes(entry.key)) + (entry.key.taken != key.taken),
        ),
        default=None,
    )


def _why(key: StageKey, earlier: Record | None, directory: Path, giver: Stage | None) -> str:
    """Return why a stage without a record of its key is to run."""
    words = key.changes(earlier.key) if earlier else ["it has not run to its end"]
    if earlier and giver and earlier.key.taken != key.taken:
        words.append(f"stage {giver.number} changed")
    if (directory / "checkpoints").is_dir():
        words.append("goes on from its newest checkpoint")
    return ", ".join(words) or "its place in the chain changed"


def targets_of(parts: Parts) -> tuple[Path, ...]:
    """Return the files that a conversion writes: a .ckpt comes with a YAML file."""
    if not isinstance(parts.task, Conversion):
        return ()
    target = cache.expanded(parts.task.target)
    return (target, target.with_suffix(".yaml")) if target.suffix == ".ckpt" else (target,)


def _with_targets(plan: Plan, targets: Sequence[Path], writers: Sequence[Record | Claim]) -> Plan:
    """Return the plan without the refusal of targets that the chain itself wrote and replaces."""
    if not are_own(targets, writers):
        return plan
    others = tuple(item for item in plan.inputs if item.key != "task.target")
    return attrs.evolve(plan, inputs=others)


def are_own(targets: Sequence[Path], writers: Sequence[Record | Claim]) -> bool:
    """Return whether targets exist and all are unchanged outputs of the chain."""
    present = [target for target in targets if os.path.lexists(target)]
    return bool(present) and all(
        any(writer.wrote(target) for writer in writers) for target in present
    )


def _folder(chain: Chain, parts: Parts) -> Path:
    """Return the parent of the run directories, one that an earlier version named if it exists."""
    folder = Path(parts.runtime.output) / name_of(chain)
    earlier = folder.with_name(f"gpt2--{folder.name.removeprefix('gpt2-')}")
    is_unsized = not (chain.name or chain.recipes[0].completed.model.canonical_size)
    return earlier if is_unsized and earlier.is_dir() else folder


def name_of(chain: Chain) -> str:
    """Return the name of a chain, by default that of its first network's size and its tasks."""
    if chain.name:
        return chain.name
    tasks = [parts.task.kind for recipe in chain.recipes if (parts := recipe.completed).task]
    size = chain.recipes[0].completed.model.canonical_size
    return "-".join(filter(None, ("gpt2", size, *tasks)))
