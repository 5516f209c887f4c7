"""Description and requirements of a server."""

from __future__ import annotations

import importlib.util

import attrs

from gpt2dsl import extras
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.task import Serve
from gpt2dsl.plan.inputs import weights_name

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


def name_of(parts: Parts) -> str:
    """Return the name of a served model."""
    assert isinstance(parts.task, Serve)
    return parts.task.name or weights_name(parts)


def defaults_of_requests(settings: Generation) -> Generation:
    """Return a recipe's generation settings without the keys that requests set."""
    values = {key: value for key, value in settings.given().items() if key not in OF_REQUESTS}
    part = Generation(**values).written(settings.origin, {key: settings.why(key) for key in values})
    assert isinstance(part, Generation)
    return part
