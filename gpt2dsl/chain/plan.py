"""A chain's plan: which stages run, which need not, and why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from gpt2dsl import terminal
from gpt2dsl.chain import elsewhere, record
from gpt2dsl.chain.chain import Chain, at
from gpt2dsl.chain.key import Key, key_of
from gpt2dsl.chain.record import Claim, Record
from gpt2dsl.chain.render import render
from gpt2dsl.data import documents
from gpt2dsl.errors import Fault, SpecError
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
    """One stage, planned.

    Attributes:
        number: from 1.
        takes: the number of the stage whose weights it takes; None where it takes none.
        key: what decides its result.
        state: ``=`` its output is there, verified, and nothing that decides it has changed since;
            ``~`` something has; ``+`` it never ran to its end.
        why: in words.
        plan: of its recipe.
        directory: of its run, which may be one by itself that did the same.
        targets: what it writes outside of it.
        record: of what it left, where its state is ``=``.
        promise: what is known of the weights that it gives; None where it gives none.
        author: as in ``Record``.
    """

    number: int
    takes: int | None
    key: Key
    state: State
    why: str
    plan: Plan
    directory: Path
    targets: tuple[Path, ...]
    record: Record | None
    promise: DeferredWeights | None
    author: str

    def writers(self) -> list[Record | Claim]:
        """Return what this very chain has left, and what it had begun to write when it ended."""
        return _writers(self.directory.parent, self.author)

    def prepared(self) -> Plan:
        """Its plan once its inputs are fetched and tokenised, where its weights are there."""
        if any(one.state == "promised" for one in self.plan.inputs):
            return self.plan
        return _with_targets(self.plan.prepared(), self.targets, self.writers())

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
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
    """What will run, in which order, and what need not.

    Attributes:
        name: of the chain.
        digest: of its recipes.
        stages: in their order.
        directory: has one of each stage.
    """

    name: str
    digest: str
    stages: tuple[Stage, ...]
    directory: str
    _chain: Chain = attrs.field(repr=False, eq=False)

    def __repr__(self) -> str:
        words = f"{len(self.stages)} stages, digest {self.digest[:8]}"
        return f"<ChainPlan {self.name}: {words}; print() shows it>"

    def __str__(self) -> str:
        return render(self)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "digest": self.digest,
            "directory": self.directory,
            "stages": [stage.to_json() for stage in self.stages],
        }

    def to_json_text(self) -> str:
        """As the text of a JSON document."""
        return documents.dumps(self.to_json(), indent=2) + "\n"

    def why(self) -> list[tuple[str, Any, str]]:
        """Return the rows of ``Plan.why`` for all stages: ``stage.1.optim.lr``."""
        return [
            (f"stage.{stage.number}.{key}", value, origin)
            for stage in self.stages
            for key, value, origin in stage.plan.why()
        ]

    def refusals(self) -> tuple[Fault, ...]:
        """Why check and run refuse the inputs of stages that are to run."""
        return tuple(
            at(one.number, fault)
            for one in self.stages
            if one.state != "="
            for fault in one.plan.refusals()
        )

    def run(
        self,
        *,
        resume_command: str = "",
        callbacks: Sequence[Callback] = (),
        stage_callbacks: Sequence[Sequence[Callback]] = (),
        quiet: bool = False,
    ) -> ChainResult:
        """Carry it out: every stage whose verified output is not there already.

        Args:
            resume_command: what a user types to go on after an interruption.
            callbacks: told while a stage trains.
            stage_callbacks: for each stage, what is told while it trains; () for none.
            quiet: show no progress.

        Raises:
            SpecError: an input of any stage is absent or can't be used; none has run then.
            RunError: a stage failed; those before it need not run again.
        """
        from gpt2dsl.chain.run import run  # noqa: PLC0415  # a chain is planned without engines

        with terminal.quietly(wanted=quiet):
            told = [(*callbacks, *own) for own in stage_callbacks or [()] * len(self.stages)]
            return run(self, self._chain, resume_command or "plan.run()", told)


def make(chain: Chain, *, prepare: bool = False) -> ChainPlan:
    """Return the plan of a chain; arguments and errors as in ``Chain.plan``."""
    if found := list(_faults(chain, of_inputs=False)):
        raise SpecError(found)
    stages: list[Stage] = []
    for _ in chain.recipes:
        stages.append(_planned(chain, stages, prepare=prepare))  # it reads them
    return ChainPlan(
        name=name_of(chain),
        digest=chain.digest,
        stages=tuple(stages),
        directory=str(_folder(chain, chain.recipes[0].completed)),
        chain=chain,
    )


def _planned(chain: Chain, before: Sequence[Stage], *, prepare: bool) -> Stage:
    """Return the next stage; an error says which one it was."""
    try:
        return next_stage(chain, before, prepare=prepare)
    except SpecError as error:
        raise SpecError([at(len(before) + 1, fault) for fault in error.faults]) from error


def faults(chain: Chain) -> tuple[Fault, ...]:
    """Return every fault of a chain's recipes as wholes, and of the inputs that they name."""
    return tuple(_faults(chain, of_inputs=True))


def _faults(chain: Chain, *, of_inputs: bool) -> Iterator[Fault]:
    promised: dict[int, DeferredWeights] = {}
    for number, recipe in enumerate(chain.recipes, 1):
        parts, given = recipe.completed, None
        if takes(parts) and promised:
            giver = max(promised)
            given = promised[giver]
            parts = _started(recipe, f"stage {giver}", giver).completed
        if number < len(chain) and isinstance(parts.task, Serve):
            message = "it serves until it is stopped: no stage can come after it"
            yield at(number, fault(parts, "G2-107", "task.kind", message))
        wrong = every_fault(parts, given, of_inputs=of_inputs)
        folder = _folder(chain, parts)
        own = are_own(targets_of(parts), _writers(folder, _author(chain, folder)))
        yield from (
            at(number, fault)
            for fault in wrong
            if not (own and fault.code == "G2-308" and fault.key.startswith("task.target"))
        )
        if gives(parts):
            promised[number] = promise(
                parts, find_network(parts, promised=given), f"stage {number}"
            )


def next_stage(
    chain: Chain, before: Sequence[Stage], *, prepare: bool, thorough: bool = False
) -> Stage:
    """Return a stage, planned, with what it has left.

    Args:
        chain: the whole one.
        before: the stages before it, which it comes after.
        prepare: as in ``Recipe.plan``.
        thorough: read what it has left, and what its inputs hold, whatever time that takes.
    """
    number, recipe = len(before) + 1, chain.recipes[len(before)]
    own = recipe.completed
    giver = next((one for one in reversed(before) if one.promise), None) if takes(own) else None
    there = giver.record.weights if giver and giver.record else ""
    if giver:
        recipe = _started(recipe, there or f"stage {giver.number}", giver.number)
    if giver and isinstance(own.task, Serve) and not own.task.name:
        recipe = recipe.override({"task.name": (name_of(chain), "the chain")})
    parts, given = recipe.completed, giver.promise if giver and not there else None
    assert parts.task is not None
    folder = _folder(chain, parts)
    plan = plans.make(
        parts,
        recipe.to_toml(),
        f"{name_of(chain)}-{number}-{parts.task.kind}",
        prepare=prepare and given is None,
        promised=given,
    )
    key = key_of(own, plan, giver.key.digest if giver else "", compute=thorough)
    directory = folder / f"{parts.task.kind}-{key.digest[:8]}"
    plan = attrs.evolve(plan, digest=key.digest)
    if parts.task.has_directory:
        plan = attrs.evolve(plan, directory=str(directory))
    targets, records, author = targets_of(parts), record.below(folder), _author(chain, folder)
    own_records, writers = _own(records, author), _writers(folder, author)
    found = next((one for one in records if one.key == key), None)
    wrong = _wrong(found, giver, thorough=thorough) if found else ""
    if wrong and are_own(targets, writers):
        wrong = f"{targets[0]} holds what it wrote with other values"
    is_done, why = found is not None and not wrong, ""
    if not is_done and parts.trains and not giver:
        other = elsewhere.carried_out(folder.parent, number, parts.task.kind, key)
        if other and not other.wrong(thorough=thorough):
            found, is_done, directory = other, True, Path(other.weights).parent.parent
            why = f"done already: {directory}"
    earlier = None if found else _earlier(own_records, number, plan.task, key)
    if not is_done:
        why = wrong or _why(key, earlier, directory, giver)
    if isinstance(parts.task, Serve):
        why = "it serves until it is stopped"
    return Stage(
        number=number,
        takes=giver.number if giver else None,
        key=key,
        state="=" if is_done else "~" if found or earlier else "+",
        why=why,
        plan=_with_targets(plan, targets, writers),
        directory=directory,
        targets=targets,
        record=found if is_done else None,
        promise=promise(parts, plan.network, f"stage {number}") if gives(parts) else None,
        author=author,
    )


def _own(records: Sequence[Record], author: str) -> list[Record]:
    """Return those of a chain; another one of the same name has its records in the same folder."""
    return [entry for entry in records if entry.author in ("", author)]


def _writers(folder: Path, author: str) -> list[Record | Claim]:
    """Return what a chain has left in its folder, and what it had begun to write."""
    claims = [claim for claim in record.claims(folder) if claim.author in ("", author)]
    return [*_own(record.below(folder), author), *claims]


def _author(chain: Chain, folder: Path) -> str:
    """Return the file that says a chain, seen from its folder: a project may be moved."""
    file, colon, name = chain.author.partition(":")
    return f"{os.path.relpath(file, folder)}{colon}{name}" if Path(file).exists() else chain.author


def _started(recipe: Recipe, weights: str, number: int) -> Recipe:
    """Return the recipe that starts from the weights of a stage."""
    return recipe.override({inputs.weights_key(recipe.completed): (weights, f"stage {number}")})


def _wrong(found: Record, giver: Stage | None, *, thorough: bool) -> str:
    """Why what a stage has left of this very key does not count."""
    if wrong := found.wrong(thorough=thorough):
        return wrong
    if giver is None:
        return ""
    if giver.record is None:
        return f"stage {giver.number} runs before it"
    return "" if giver.record.given == found.taken else f"stage {giver.number} gave other weights"


def _earlier(records: Sequence[Record], number: int, task: str, key: Key) -> Record | None:
    """What the stage left when it was another: of its place and task, what is most like it."""
    return min(
        (one for one in records if one.task == task),
        key=lambda one: (
            one.number != number,
            len(key.changes(one.key)) + (one.key.taken != key.taken),
        ),
        default=None,
    )


def _why(key: Key, earlier: Record | None, directory: Path, giver: Stage | None) -> str:
    """Why a stage runs that has left nothing of this key."""
    words = key.changes(earlier.key) if earlier else ["it has not run to its end"]
    if earlier and giver and earlier.key.taken != key.taken:
        words.append(f"stage {giver.number} changed")
    if (directory / "checkpoints").is_dir():
        words.append("goes on from its newest checkpoint")
    return ", ".join(words) or "its place in the chain changed"


def targets_of(parts: Parts) -> tuple[Path, ...]:
    """Return what a conversion writes; a .ckpt has its YAML beside it."""
    if not isinstance(parts.task, Conversion):
        return ()
    target = cache.expanded(parts.task.target)
    return (target, target.with_suffix(".yaml")) if target.suffix == ".ckpt" else (target,)


def _with_targets(plan: Plan, targets: Sequence[Path], writers: Sequence[Record | Claim]) -> Plan:
    """The plan that does not refuse targets that the chain itself has written: it replaces them."""
    if not are_own(targets, writers):
        return plan
    kept = tuple(one for one in plan.inputs if one.key != "task.target")
    return attrs.evolve(plan, inputs=kept)


def are_own(targets: Sequence[Path], writers: Sequence[Record | Claim]) -> bool:
    """Return whether all that lies at targets is what the chain wrote there, unchanged."""
    there = [target for target in targets if os.path.lexists(target)]
    return bool(there) and all(any(one.wrote(target) for one in writers) for target in there)


def _folder(chain: Chain, parts: Parts) -> Path:
    """Has the directories of a chain's stages."""
    return Path(parts.runtime.output) / name_of(chain)


def name_of(chain: Chain) -> str:
    """What runs of a chain are called."""
    if chain.name:
        return chain.name
    tasks = [parts.task.kind for one in chain.recipes if (parts := one.completed).task]
    return "-".join(("gpt2", chain.recipes[0].completed.model.canonical_size, *tasks))
