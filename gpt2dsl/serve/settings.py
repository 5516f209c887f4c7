"""How a server is run, and the socket that it listens on: known before MindSpore is loaded."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from typing_extensions import Self

from gpt2dsl.data import chat_template
from gpt2dsl.errors import Fault, InputError, RunError, SpecError
from gpt2dsl.files import cache
from gpt2dsl.parts.task import Serve
from gpt2dsl.terminal import say

_DEFAULT = Serve()


@attrs.frozen(kw_only=True)
class Settings:
    """How a server is run: what a recipe says of it, and what only its process knows.

    Attributes:
        host: address that is listened on.
        port: of it; 0 for a free one.
        hosts: names under which it may be asked, besides localhost and numbers.
        key: that requests must carry; "" for none.
        origins: of pages that may read its answers.
        is_open: whether others than this machine may ask without a key.
        grace: seconds for what runs when it is asked to stop.
        tokenizer: auto for the one beside the weights, gpt2, or a folder.
        template: a chat template in place of the tokenizer's own.
        adapters: of the weights, by the name that requests say.
        batch: texts that are generated at once.
        waiting: texts that may wait.
        cache: bytes that are kept of prompts, for those that begin alike.
        warms_up: whether the graphs of all lengths are compiled before it is ready.
        max_body: bytes of a request's body.
        max_stops: stop strings of a request.
        checks: answer one request of its own, and end.
    """

    host: str = _DEFAULT.host
    port: int = _DEFAULT.port
    hosts: Sequence[str] = _DEFAULT.allowed_hosts
    key: str = attrs.field(default="", repr=False)
    origins: Sequence[str] = _DEFAULT.cors
    is_open: bool = False
    grace: float = _DEFAULT.grace
    tokenizer: str = "auto"
    template: str | None = attrs.field(default=None, repr=False)
    adapters: Mapping[str, str] = attrs.field(factory=dict)
    batch: int = _DEFAULT.batch
    waiting: int = _DEFAULT.queue
    cache: int = _DEFAULT.cache_mb << 20
    warms_up: bool = _DEFAULT.warmup
    max_body: int = _DEFAULT.max_body
    max_stops: int = _DEFAULT.max_stops
    checks: bool = False

    @classmethod
    def of(cls, task: Serve, **more: Any) -> Self:
        """Return the settings that a task says.

        Args:
            task: it.
            more: fields that no recipe says: ``key``, ``is_open``, ``tokenizer``, ``adapters``,
                ``checks``.

        Raises:
            InputError: the template can't be read, or is none.
        """
        return cls(
            host=task.host,
            port=task.port,
            hosts=task.allowed_hosts,
            origins=task.cors,
            grace=task.grace,
            template=_template(task.template) if task.template else None,
            batch=task.batch,
            waiting=task.queue,
            cache=task.cache_mb << 20,
            warms_up=task.warmup,
            max_body=task.max_body,
            max_stops=task.max_stops,
            **more,
        )


def _template(name: str) -> str:
    from gpt2dsl.data import chat_environment  # noqa: PLC0415  # Jinja is an extra

    source = chat_template.read(cache.expanded(name))
    chat_environment.check(source, name)
    return source


_OF_COMMAND = Fault("G2-202", "", "--host", "set GPT2DSL_API_KEY (--api-key), or say --insecure")


def listen(settings: Settings, refusal: Fault = _OF_COMMAND) -> socket.socket:
    """Return a socket that listens; one that others reach needs a key.

    Args:
        settings: of the server.
        refusal: where the host was said, and the cure of one that needs a key.

    Raises:
        RunError: the address can't be listened on.
        SpecError: others could ask without a key.
    """
    host, port = settings.host, settings.port
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family)
    except OSError as error:
        is_of_names = isinstance(error, socket.gaierror)
        why = str(error.strerror) if is_of_names else os.strerror(error.errno or 0)
        raise RunError(f"{host}:{port}: can't be listened on: {why}") from None
    bound = ipaddress.ip_address(listening.getsockname()[0].partition("%")[0])
    if bound.is_loopback or settings.key:
        return listening
    if not settings.is_open:
        listening.close()
        message = f"anyone who reaches {host} could ask: {refusal.message}"
        raise SpecError([attrs.evolve(refusal, message=message)])
    say(f"warning: anyone who reaches {host} can use this server: it needs no key")
    return listening


def named_adapters(given: Sequence[str], base: str) -> dict[str, str]:
    """Return adapters by name.

    Args:
        given: each as ``NAME=PATH``.
        base: the name of the weights that they belong to.

    Raises:
        InputError: with every one that is not as it should be.
    """
    adapters: dict[str, str] = {}
    faults = []
    for one in given:
        name, _, path = one.partition("=")
        if not name.strip() or not path.strip():
            why = f"expected NAME=PATH, found {one!r}"
        elif name == base:
            why = f"{name!r} is the name of the weights themselves; give the adapter another one"
        elif name in adapters:
            why = f"{name!r} names two adapters, {adapters[name]} and {path}"
        else:
            adapters[name] = path
            continue
        faults.append(Fault("G2-202", "", "--adapter", why))
    if faults:
        raise InputError.of(faults)
    return adapters
