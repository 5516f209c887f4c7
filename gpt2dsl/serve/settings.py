"""Settings of a server and its listening socket, without MindSpore."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
from typing_extensions import Self

from gpt2dsl.data import chat_template
from gpt2dsl.errors import Fault, InputError, RunError, SpecError
from gpt2dsl.files import cache
from gpt2dsl.parts.task import Serve
from gpt2dsl.terminal import say
from gpt2dsl.weights import location

_DEFAULT = Serve()


@attrs.frozen(kw_only=True)
class Settings:
    """Settings of a server, from the recipe and from its process.

    Attributes:
        host: listening address.
        port: listening port; 0 for a free one.
        hosts: accepted host names besides localhost and numeric addresses.
        key: required API key; "" for none.
        origins: origins allowed by CORS.
        is_open: whether other machines may send requests without a key.
        grace: seconds for running requests to finish at shutdown.
        tokenizer: auto for the one beside the weights, gpt2, or a folder.
        template: a chat template in place of that of the tokenizer.
        adapters: name in requests → path of an adapter of the weights.
        batch: texts that are generated concurrently.
        waiting: maximum number of waiting texts.
        cache: bytes of the prefix cache.
        warms_up: whether the graphs of all lengths are compiled before the server is ready.
        max_body: maximum bytes of the body of a request.
        max_stops: maximum stop strings of a request.
        checks: whether to send each model one request, then stop.
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
        """Return the settings of a task.

        Args:
            task: the task.
            more: fields that recipes do not have: ``key``, ``is_open``, ``tokenizer``,
                ``adapters``, ``checks``.

        Raises:
            InputError: the template can't be read or is invalid.
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
    """Return a listening socket; one that other machines reach requires a key.

    Args:
        settings: the settings of the server.
        refusal: the fault of a host that needs a key, with origin and remedy.

    Raises:
        RunError: the address can't be listened on.
        SpecError: other machines could send requests without a key.
    """
    host, port = settings.host, settings.port
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family)
    except OSError as error:
        is_of_names = isinstance(error, socket.gaierror)
        why = str(error.strerror) if is_of_names else os.strerror(error.errno or 0)
        cure = _other_address(error, refusal.key.partition(" ")[0])
        raise RunError(f"{host}:{port}: can't be listened on: {why}; {cure} [G2-535]") from None
    bound = ipaddress.ip_address(listening.getsockname()[0].partition("%")[0])
    if bound.is_loopback or settings.key:
        return listening
    if not settings.is_open:
        listening.close()
        message = f"anyone who reaches {host} could ask: {refusal.message}"
        raise SpecError([attrs.evolve(refusal, message=message)])
    say(f"warning: anyone who reaches {host} can use this server: it needs no key")
    return listening


def _other_address(error: OSError, host: str) -> str:
    """Return the cure of an address that can't be used; ``host`` is the key of its host."""
    port = host.replace("host", "port")
    equals = " " if host.startswith("--") else " = "
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host}{equals}127.0.0.1 is this machine alone, 0.0.0.0 all of its addresses"
    if error.errno == errno.EACCES:
        return f"the system keeps ports below 1024; {port}{equals}8000 is open to all"
    return f"{port} takes another, {port}{equals}0 a free one"


def named_adapters(given: Sequence[str], base: str) -> dict[str, str]:
    """Return name → path of adapters.

    Args:
        given: the adapters, ``NAME=PATH`` each.
        base: the name of the base weights.

    Raises:
        InputError: every invalid adapter.
    """
    adapters: dict[str, str] = {}
    faults = []
    for option in given:
        name, _, path = option.partition("=")
        if not name.strip() or not path.strip():
            why = f"expected NAME=PATH, found {option!r}"
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


def refuse_absent(weights: str, settings: Settings) -> None:
    """Refuse weights and adapters that are neither here nor can be on the Hub.

    Raises:
        InputError: there is no such file, folder or run.
    """
    location.refuse_absent(weights)
    for name, path in settings.adapters.items():
        with of_option(f"--adapter {name}={path}", path):
            location.refuse_absent(path)


@contextmanager
def of_option(option: str, path: str) -> Iterator[None]:
    """Report faults of a path under the option that names it.

    Raises:
        InputError: the same faults with the option as their key.
    """
    try:
        yield
    except InputError as error:
        messages = [
            fault.message if fault.key == path else f"{fault.key}: {fault.message}"
            for fault in error.faults
        ]
        named = zip(error.faults, messages, strict=True)
        faults = [attrs.evolve(fault, key=option, message=message) for fault, message in named]
        raise InputError.of(faults) from None
