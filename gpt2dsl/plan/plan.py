"""Plan of a run: frozen, JSON-serialisable and made without MindSpore."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from gpt2dsl import terminal
from gpt2dsl.data import documents
from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.identity.identity import Identity
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import parameter_count
from gpt2dsl.notebook import ShownAsText
from gpt2dsl.parts.base import DEFAULT
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.model import size_of
from gpt2dsl.plan import (
    checks,
    choose,
    effect,
    generation,
    inputs,
    parallel,
    resuming,
    strategies,
    training,
)
from gpt2dsl.plan.batches import Batches, read_by
from gpt2dsl.plan.directory import directory_of, notes_on_other_names
from gpt2dsl.plan.disk import Disk, disk
from gpt2dsl.plan.host_memory import HostMemory, of_host
from gpt2dsl.plan.identify import identity_of
from gpt2dsl.plan.inputs import Input
from gpt2dsl.plan.memory import Memory
from gpt2dsl.plan.network import DeferredWeights, Network, find_network
from gpt2dsl.plan.parallel import Layout, layout
from gpt2dsl.plan.render import render
from gpt2dsl.plan.serving import Served
from gpt2dsl.plan.stages import stages_of
from gpt2dsl.plan.steps import PlanStep
from gpt2dsl.plan.tasks import plan_of
from gpt2dsl.plan.written import Written

if TYPE_CHECKING:
    from gpt2dsl.cluster.node import Node
    from gpt2dsl.engine.callbacks import Callback
    from gpt2dsl.engine.job import Job, Result


@attrs.frozen(kw_only=True, repr=False)
class Plan(ShownAsText):
    """Plan of a run: its network, ranks, memory, inputs, steps and outputs.

    Attributes:
        name: name of the run.
        digest: digest of the recipe; equal recipes have equal digests.
        task: kind of the task.
        size: size of the model; "" where only the weights tell.
        geometry: configuration of the network.
        parameters: exact count; 0 for an adapter that is converted without its base.
        trained: count of trained parameters; 0 where nothing is trained.
        ranks: dp, mp, pp and micro_batches.
        layout: tensors, stages and traffic; None for tasks without a network in memory.
        device: cpu, ascend or gpu.
        inputs: files, folders and Hub names that are read.
        batches: rows, batches and steps of the data; None for tasks without rows.
        optimizer: description, with what decays; "" where nothing is trained.
        adapters: description of rank, scale and modules; "" for none.
        precision: description of the dtypes; "" where all are float32.
        memory: bytes on the rank that needs the most.
        host: host memory of the rank that needs the most; None where nothing is trained.
        flops: floating-point operations of a training step, as MFU counts them; 0 without one.
        disk: bytes of the checkpoints; None where nothing is trained.
        choices: the fastest layouts, the chosen one first; () where the recipe has its own.
        steps: steps of the run, in order.
        directory: folder or file that is written; "" for none.
        serves: description of a server; None for other tasks.
        written: size of the output of a conversion; None where it is not known yet.
        notes: what a reader should know of the result.
        identity: everything that the result depends on; contents that take long are pending.
        toml: the recipe as a spec.
    """

    name: str
    digest: str
    task: str
    size: str
    geometry: GPT2Config
    parameters: int
    trained: int
    ranks: dict[str, int]
    layout: Layout | None
    device: str
    inputs: tuple[Input, ...]
    batches: Batches | None
    optimizer: str
    adapters: str
    precision: str
    memory: Memory
    host: HostMemory | None
    flops: int
    disk: Disk | None
    choices: tuple[str, ...]
    steps: tuple[PlanStep, ...]
    directory: str
    serves: Served | None
    written: Written | None
    notes: tuple[str, ...]
    identity: Identity
    toml: str
    _parts: Parts = attrs.field(repr=False, eq=False)
    _network: Network = attrs.field(repr=False, eq=False)

    def to_json(self) -> dict[str, Any]:
        """Return the public fields as JSON-serialisable values."""
        from gpt2dsl.plan.document import public_fields  # noqa: PLC0415  # not needed to show a plan

        return public_fields(self)

    def to_json_text(self) -> str:
        """Return the text of a JSON document."""
        return documents.dumps(self.to_json(), indent=2) + "\n"

    def __repr__(self) -> str:
        return f"<Plan {self.name}: {self.task}, digest {self.digest[:8]}; print() shows it>"

    def __str__(self) -> str:
        return render(self)

    @property
    def network(self) -> Network:
        """Network of the run."""
        return self._network

    @property
    def world(self) -> int:
        """Number of ranks."""
        return self.ranks["dp"] * self.ranks["mp"] * self.ranks["pp"]

    @property
    def streams(self) -> bool:
        """Whether text is shown while it is generated."""
        return self.task == "generate" and self._network.generation.stream

    def why(self) -> list[tuple[str, Any, str]]:
        """Return key, value and origin of each field; the origin may be a file beside weights."""
        info = self._network.weights_info
        stated = info.defaults.values if info else {}
        parts = attrs.evolve(self._parts, generation=self._network.generation)
        rows = parts.why()
        return [
            (key, stated[key].value, stated[key].origin)
            if origin == DEFAULT and key in stated and not key.startswith("generation.")
            else (key, value, origin)
            for key, value, origin in rows
        ]

    def refusals(self) -> tuple[Fault, ...]:
        """Return the faults for which check and run refuse the inputs."""
        return tuple(fault for item in self.inputs for fault in item.refusals)

    def run(
        self,
        *,
        keep: bool = True,
        resume_command: str = "",
        callbacks: Sequence[Callback] = (),
        on_text: Callable[[str], None] | None = None,
        node: Node | None = None,
        quiet: bool = False,
    ) -> Result:
        """Run the plan.

        Args:
            keep: whether the run gets a directory of its own; training always does.
            resume_command: command that resumes the run after an interruption.
            callbacks: called while a training runs.
            on_text: called with generated text while it is generated, where the recipe streams.
            node: this machine's ranks, where ``gpt2dsl launch`` started several machines; one
                without rank 0 returns a result of task and directory only.
            quiet: whether to hide progress.

        Raises:
            SpecError: an input is absent or can't be used.
            RunError: the run failed.
        """
        from gpt2dsl.engine.callbacks import checked  # noqa: PLC0415  # not needed to show a plan

        called = checked(callbacks, "callbacks")
        with terminal.quietly(wanted=quiet):
            plan = self.prepared()
            inputs.require(plan.inputs)
            if node is None or node.first == 0:
                plan.require_room()
            job = plan._job(keep, resume_command, called, on_text)  # noqa: SLF001
            from gpt2dsl.engine.run import run  # noqa: PLC0415  # engines import MindSpore

            return run(job, node)

    def require_room(self) -> None:
        """Refuse a training whose checkpoints would fill the disk.

        Raises:
            RunError: there is less room than its checkpoints need.
        """
        if self.disk:
            self.disk.require(Path(self.directory))

    def write_strategies(self, folder: str | Path) -> int:
        """Write MindSpore's strategy file of each rank and return the number of ranks.

        Args:
            folder: receives ``ckpt_strategy_rank_0.ckpt`` and so on; created if it does not exist.

        Raises:
            SpecError: the recipe has LoRA, whose adapters are never split.
            RunError: the folder is not empty, or can't be written.
        """
        return strategies.write(self._parts, self.geometry, Path(folder))

    def prepared(self) -> Plan:
        """Return the plan with weights fetched and data tokenised, as far as necessary.

        It is made anew where data has changed since.
        """
        unchanged = all(source.unchanged for source in self._network.sources.values())
        counted = self.batches is None or self.batches.rows is not None
        looks_further = self._parts.data.max_bad_rows > 0
        if unchanged and counted and not looks_further and not self.refusals():
            return self
        place = self._run_directory(keep=True)
        self._require_checkpoint()
        return make(self._parts, self.toml, self.name, prepare=True, directory=place)

    def _require_checkpoint(self) -> None:
        """Refuse a checkpoint that the run can't go on from, before anything is tokenised."""
        if any(item.key == resuming.KEY and item.refusals for item in self.inputs):
            # it may have been put right since this plan was made
            read = make(self._parts, self.toml, self.name).inputs
            inputs.require([item for item in read if item.key == resuming.KEY])
        elif self._parts.trains and self._parts.train.resume == "auto":
            resuming.require_unchanged(Path(self.directory), self.identity, self.inputs)

    def identified(self) -> Identity:
        """Return the identity of the run, complete: large inputs are read, too."""
        return identity_of(self._parts, self.inputs, self._network, compute=True)

    def _job(
        self,
        keep: bool,
        resume_command: str,
        callbacks: tuple[Callback, ...],
        on_text: Callable[[str], None] | None,
    ) -> Job:
        from gpt2dsl.engine.job import Job  # noqa: PLC0415  # as above

        identity, info = self.identified(), self._network.weights_info
        inputs.require(resuming.check_against(self._parts, identity, self.batches, self.inputs))
        recorded = attrs.evolve(self, identity=identity)
        return Job(
            parts=self._parts_of_job,
            name=self.name,
            geometry=self.geometry,
            flops=self.flops,
            tokenizer=self._network.tokenizer,
            weights=self._network.weights,
            weights_info=info and attrs.evolve(info, tensors={}),
            sources=self._network.sources,
            overrides=plan_of(self._parts).overrides(fetch=True),
            notes=self.notes,
            classes=self._network.classes,
            steps=(self.batches.steps or 0) if self.batches else 0,
            directory=self._run_directory(keep=keep),
            documents={"plan.json": recorded.to_json_text(), "recipe.toml": self.toml},
            plan_text=str(self),
            resume_command=resume_command or self._again(),
            base=inputs.base_name(self._parts) if self._parts.lora else "",
            generation_config=generation.written(self._parts, info),
            identity=identity,
            callbacks=callbacks,
            on_text=on_text,
        )

    @property
    def _parts_of_job(self) -> Parts:
        """Parts of the recipe, with generation completed unless requests to a server do that."""
        if not plan_of(self._parts).completes_generation:
            return self._parts
        return attrs.evolve(self._parts, generation=self._network.generation)

    @property
    def has_run(self) -> bool:
        """Whether it writes a directory of a run, unlike conversions and servers."""
        return self._run_directory(keep=True) is not None

    @property
    def starts_anew(self) -> bool:
        """Whether each run begins at the first step; with ``auto`` it resumes a stopped one."""
        return self._parts.trains and self._parts.train.resume == "never"

    def _again(self) -> str:
        """Return the Python code that resumes the run after an interruption."""
        restart = 'recipe.set("train.resume", "auto").plan().run()'
        return restart if self.starts_anew else "plan.run()"

    def _run_directory(self, *, keep: bool) -> Path | None:
        """Return the directory of the run; None for conversions and servers, which have none."""
        if self._parts.task is None or not self._parts.task.has_directory:
            return None
        return Path(self.directory) if keep or self._parts.trains else None


def make(
    parts: Parts,
    toml: str,
    name: str = "",
    *,
    prepare: bool = False,
    promised: DeferredWeights | None = None,
    directory: Path | None = None,
) -> Plan:
    """Return the plan of a recipe.

    Args:
        parts: the recipe's, completed.
        toml: the recipe as a spec.
        name: name of the run; "" for one derived from size and task.
        prepare: whether to fetch weights and tokenise data, so that rows and steps are exact.
        promised: the weights, where an earlier stage of a chain is to make them.
        directory: directory of the run; None to derive it from the recipe.

    Raises:
        SpecError: faults of the recipe as a whole, all of them.
    """
    network = find_network(parts, fetch=prepare, promised=promised)
    geometry = network.geometry
    if errors := [*checks.faults(parts, geometry), *network.faults]:
        raise SpecError(errors)
    parts, choices = choose.resolved(parts, geometry)
    assert parts.task is not None
    kind, task = parts.task.kind, plan_of(parts)
    network, batches, read = read_by(parts, network, prepare=prepare)
    identity = identity_of(parts, read, network, compute=False)
    accepted = resuming.check_against(parts, identity, batches, read)
    if accepted != read:  # a refused checkpoint is no part of the identity
        read, identity = accepted, identity_of(parts, accepted, network, compute=False)
    steps = batches.steps if batches else None
    if errors := list(checks.warmup(parts, steps)):
        raise SpecError(errors)
    size = size_of(geometry) if parts.converts else parts.model.canonical_size
    known_size = "" if parts.converts and network.weights_info is None else size
    run_name = name or "-".join(filter(None, ("gpt2", known_size, kind)))
    stages = stages_of(parts, geometry)
    trained = training.trained_shapes(parts, geometry) if parts.trains else []
    complete = partial(identity_of, parts, read, network, compute=True)
    directory = directory or directory_of(parts, run_name, identity, complete if prepare else None)
    return Plan(
        name=run_name,
        digest=parts.digest(),
        task=kind,
        size=size,
        geometry=geometry,
        parameters=0 if task.is_adapter_alone else parameter_count(geometry),
        trained=sum(map(math.prod, trained)),
        ranks={key: getattr(parts.parallel, key) for key in ("dp", "mp", "pp", "micro_batches")},
        layout=None if parts.converts else layout(parts, geometry, stages),
        device=parts.runtime.device,
        inputs=tuple(read),
        batches=batches,
        optimizer=training.optimizer_words(parts, trained) if trained else "",
        adapters=training.adapter_words(parts, geometry),
        precision=training.precision_words(parts),
        memory=task.memory(geometry, stages),
        host=of_host(parts, geometry, stages) if parts.trains else None,
        flops=training.flops(parts, geometry) if parts.trains else 0,
        disk=disk(parts, geometry, trained, steps or 0) if trained else None,
        choices=tuple(map(str, choices)),
        steps=task.steps(),
        directory=task.writes_to(directory),
        serves=task.served(),
        written=network.written,
        notes=(
            *network.notes,
            *inputs.notes(read),
            *notes_on_other_names(parts, identity, directory, steps),
            *effect.notes(parts, geometry),
            *training.notes_of_steps(parts, steps or 0),
            *parallel.notes(parts),
        ),
        identity=identity,
        toml=toml,
        parts=parts,
        network=network,
    )
