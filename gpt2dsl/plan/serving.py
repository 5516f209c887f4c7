"""Description, inputs, faults and notes of a server."""

from __future__ import annotations

import hashlib
import importlib.util
import ipaddress
import os
from collections.abc import Iterator

import attrs

from gpt2dsl import extras
from gpt2dsl.data import chat_template
from gpt2dsl.errors import Fault, InputError, RunError
from gpt2dsl.files import cache
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.task import Serve
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import Input, refused, weights_name

API_KEY = "GPT2DSL_API_KEY"
"""Environment variable of the key that requests must carry; specs have none, as they are shared."""

_NEEDS = ("fastapi", "uvicorn", "jinja2", "prometheus_client")

OF_REQUESTS = frozenset(
    {
        "max_new_tokens", "max_length", "do_sample", "beams", "length_penalty", "early_stopping",
        "num_return_sequences", "logprobs", "seed", "stream",
    }
)  # fmt: skip
"""Keys of ``[generation]`` that are no defaults of requests: requests or OpenAI's API set them."""


@attrs.frozen(kw_only=True)
class Served:
    """Description of a server.

    Attributes:
        name: name of the model in requests.
        address: URL to listen on; port 0 for any free one.
        batch: texts that are generated at once.
        queue: texts that may wait.
    """

    name: str
    address: str
    batch: int
    queue: int


def missing() -> str:
    """Return how to install the packages that a server lacks; "" where it has them."""
    if all(map(importlib.util.find_spec, _NEEDS)):
        return ""
    return f"it needs: {extras.install('serve')}"


def blank_key() -> InputError:
    """Return the error of a blank key."""
    return InputError("G2-202", API_KEY, "it is blank; unset it where no key is needed")


def refuse_event_loop() -> None:
    """Refuse to serve inside an event loop, which it would block.

    Raises:
        RunError: one is running in this thread.
    """
    import asyncio  # noqa: PLC0415  # 30 ms that no other plan need wait for

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    message = "an event loop is running in this thread, as in a notebook: serve by gpt2dsl run SPEC"
    raise RunError("G2-402", f"{message}, or in a thread of its own")


def served(parts: Parts) -> Served | None:
    """Return the description of a server; None for other tasks."""
    task = parts.task
    if not isinstance(task, Serve):
        return None
    host = f"[{task.host}]" if ":" in task.host else task.host
    return Served(
        name=name_of(parts),
        address=f"http://{host}:{task.port}",
        batch=task.batch,
        queue=task.queue,
    )


def name_of(parts: Parts) -> str:
    """Return the name of a served model."""
    assert isinstance(parts.task, Serve)
    return parts.task.name or weights_name(parts)


def faults(parts: Parts) -> Iterator[Fault]:
    """Yield the faults of a server."""
    task = parts.task
    if not isinstance(task, Serve):
        return
    if parts.parallel.ranks > 1 or parts.parallel.devices > 1:
        keys = ("parallel.devices", "parallel.dp", "parallel.mp", "parallel.pp")
        culprit = next((key for key in keys if getattr(parts.parallel, key[9:]) > 1), keys[0])
        yield fault(
            parts, "G2-107", culprit, "serve runs in one process, on one device", "task.port"
        )
    if parts.model.weights == "random":
        message = "new weights have nothing to say; name some"
        yield fault(parts, "G2-107", "model.weights", message)


def defaults_of_requests(said: Generation) -> Generation:
    """Return a recipe's generation settings without the keys that requests set."""
    values = {key: value for key, value in said.given().items() if key not in OF_REQUESTS}
    part = Generation(**values).written(said.origin, {key: said.why(key) for key in values})
    assert isinstance(part, Generation)
    return part


def find_template(parts: Parts) -> Input | None:
    """Return the file of the chat template, where one is named."""
    task = parts.task
    if not isinstance(task, Serve) or not task.template:
        return None
    key, path = "task.template", cache.expanded(task.template)
    try:
        source = chat_template.read(path)
        if not missing():
            from gpt2dsl.data import chat_environment  # noqa: PLC0415  # Jinja is an extra

            chat_environment.check(source, task.template)
    except InputError as error:
        return refused(parts, key, task.template, error)
    content = source.encode()
    return Input(
        key=key,
        name=task.template,
        digest=hashlib.sha256(content).hexdigest(),
        size=len(content),
        detail="chat template",
    )


def find_host(parts: Parts) -> Input | None:
    """Return the refusal of an address that other machines reach, where no key is set.

    Host names are left to the server, which resolves them.
    """
    task = parts.task
    if not isinstance(task, Serve):
        return None
    if key := os.environ.get(API_KEY, ""):
        return None if key.strip() else refused(parts, "task.host", task.host, blank_key())
    try:
        is_local = ipaddress.ip_address(task.host).is_loopback
    except ValueError:
        return None
    if is_local:
        return None
    why = f"anyone who reaches {task.host} could ask: set {API_KEY}"
    return refused(parts, "task.host", task.host, InputError("G2-202", task.host, why))


def find_packages(parts: Parts) -> Input | None:
    """Return the refusal of a server that lacks packages."""
    if not isinstance(parts.task, Serve) or not (why := missing()):
        return None
    return refused(parts, "task.kind", "serve", InputError("G2-534", "serve", why))


def notes(parts: Parts) -> Iterator[str]:
    """Yield a note on keys of generation that are no defaults of requests."""
    if not isinstance(parts.task, Serve):
        return
    idle = [f"generation.{key}" for key in parts.generation.changed() if key in OF_REQUESTS]
    if idle:
        verb = "changes" if len(idle) == 1 else "change"
        yield f"{', '.join(idle)} {verb} nothing: requests say it"
