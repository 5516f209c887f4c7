"""The serve task: a server until it is stopped."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2dsl.data import chat_template
from gpt2dsl.errors import Fault, InputError, SpecError
from gpt2dsl.files import cache
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts import Generation
from gpt2dsl.parts.rules import LARGEST
from gpt2dsl.parts.task import Serve
from gpt2dsl.plan import generation, serving
from gpt2dsl.plan import memory as memories
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import Input, refused
from gpt2dsl.plan.memory import Memory
from gpt2dsl.plan.serving import API_KEY, Served
from gpt2dsl.plan.stages import StageSizes
from gpt2dsl.plan.steps import PlanStep
from gpt2dsl.plan.tasks.base import TaskPlan

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import WeightsInfo

_REQUEST = Generation(
    max_new_tokens=LARGEST, do_sample=True, beams=1, num_return_sequences=1, logprobs=None, seed=0
)
"""Settings that every request to a server carries."""


class ServePlan(TaskPlan):
    """Answers of serve."""

    task: Serve
    completes_generation = False

    def inputs(self) -> Iterator[Input]:
        items = (self._template(), self._packages(), self._host())
        yield from (item for item in items if item)

    def faults(self, config: GPT2Config, info: WeightsInfo | None) -> Iterator[Fault]:
        parts = self.parts
        if parts.parallel.ranks > 1 or parts.parallel.devices > 1:
            keys = ("parallel.devices", "parallel.dp", "parallel.mp", "parallel.pp")
            culprit = next((key for key in keys if getattr(parts.parallel, key[9:]) > 1), keys[0])
            message = "serve runs in one process, on one device"
            yield fault(parts, "G2-107", culprit, message, "task.port")
        if parts.model.weights == "random":
            message = "new weights have nothing to say; name some"
            yield fault(parts, "G2-107", "model.weights", message)

    def generation(self, info: WeightsInfo | None) -> tuple[Generation, list[Fault]]:
        """Return the defaults of requests, and the faults that would fail every request."""
        settings = self.parts.generation
        if info is None:
            return settings, []
        defaults = info.defaults.overridden(serving.defaults_of_requests(settings))
        try:
            defaults.refuse(_REQUEST)
            completed = defaults.completed(_REQUEST)
        except SpecError as error:
            return settings, list(error.faults)
        problems = generation.faults(self.parts, completed)
        for key, ids in completed.ids.items():
            if ids and max(ids) >= info.geometry.vocab:
                message = f"{max(ids)} is no id: there are {info.geometry.vocab}"
                problems.append(
                    fault(self.parts, "G2-202", f"generation.{key}", message, compared=("model",))
                )
        shown = serving.defaults_of_requests(completed)
        values = settings.given() | shown.given()
        origins = {key: (shown if key in shown.given() else settings).why(key) for key in values}
        written = Generation(**values).written(settings.origin, origins)
        assert isinstance(written, Generation)
        return written, problems

    def notes(
        self, config: GPT2Config, settings: Generation, info: WeightsInfo | None
    ) -> Iterator[str]:
        if info and not self.parts.generation.eos:
            yield from info.defaults.notes
        changed = self.parts.generation.changed()
        if idle := [f"generation.{key}" for key in changed if key in serving.OF_REQUESTS]:
            verb = "changes" if len(idle) == 1 else "change"
            yield f"{', '.join(idle)} {verb} nothing: requests say it"

    def steps(self) -> tuple[PlanStep, ...]:
        return (PlanStep(self.task.kind, (self.weights,)),)

    def memory_of_stage(self, config: GPT2Config, stage: StageSizes) -> Memory:
        return memories.of_server(self.task, config, stage)

    def writes_to(self, directory: Path) -> str:
        return ""

    def served(self) -> Served:
        host = f"[{self.task.host}]" if ":" in self.task.host else self.task.host
        return Served(
            name=serving.name_of(self.parts),
            address=f"http://{host}:{self.task.port}",
            batch=self.task.batch,
            queue=self.task.queue,
        )

    def _template(self) -> Input | None:
        """Return the file of the chat template, where one is named."""
        key, name = "task.template", self.task.template
        if not name:
            return None
        try:
            source = chat_template.read(cache.expanded(name))
            if not serving.missing():
                from gpt2dsl.data import chat_environment  # noqa: PLC0415  # Jinja is an extra

                chat_environment.check(source, name)
        except InputError as error:
            return refused(self.parts, key, name, error)
        content = source.encode()
        digest = hashlib.sha256(content).hexdigest()
        return Input(key=key, name=name, digest=digest, size=len(content), detail="chat template")

    def _packages(self) -> Input | None:
        """Return the refusal of a server that lacks packages."""
        if not (why := serving.missing()):
            return None
        return refused(self.parts, "task.kind", "serve", InputError("G2-534", "serve", why))

    def _host(self) -> Input | None:
        """Return the refusal of an address that other machines reach, where no key is set.

        Host names are left to the server, which resolves them.
        """
        host = self.task.host
        if key := os.environ.get(API_KEY, ""):
            blank = not key.strip()
            return refused(self.parts, "task.host", host, serving.blank_key()) if blank else None
        try:
            is_local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            return None
        if is_local:
            return None
        why = f"anyone who reaches {host} could ask: set {API_KEY}"
        return refused(self.parts, "task.host", host, InputError("G2-202", host, why))
