"""Settings of a server and its listening socket, without MindSpore."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs

from gpt2dsl.data import chat_template
from gpt2dsl.errors import Fault, InputError, RunError, SpecError
from gpt2dsl.files import cache
from gpt2dsl.parts import Model
from gpt2dsl.parts.task import Serve
from gpt2dsl.terminal import say
from gpt2dsl.weights import location


@attrs.frozen(kw_only=True)
class ServerSettings:
    """Settings of a server: its task, and options of the process that recipes do not contain.

    Attributes:
        task: the task, as in a recipe.
        key: API key that requests must carry; "" if they need none.
        is_open: whether other machines may send requests without a key.
        network: properties of weights whose files may lack them.
        tokenizer: auto for the tokenizer of the weights, gpt2, or a folder.
        adapters: name in requests → path of an adapter of the weights.
        checks: whether to send one request to each model, then stop.
        template: a chat template that replaces the tokenizer's.

    Raises:
        InputError: the template can't be read or is invalid.
    """

    task: Serve = attrs.field(factory=Serve)
    key: str = attrs.field(default="", repr=False)
    is_open: bool = False
    network: Model = attrs.field(factory=Model)
    tokenizer: str = "auto"
    adapters: Mapping[str, str] = attrs.field(factory=dict)
    checks: bool = False
    template: str | None = attrs.field(init=False, repr=False)

    @template.default
    def _read_template(self) -> str | None:
        return _template(self.task.template) if self.task.template else None


def _template(name: str) -> str:
    from gpt2dsl.data import chat_environment  # noqa: PLC0415  # Jinja is an extra

    source = chat_template.read(cache.expanded(name))
    chat_environment.check(source, name)
    return source


_OF_COMMAND = Fault("G2-202", "", "--host", "set GPT2DSL_API_KEY (--api-key), or say --insecure")


def listen(settings: ServerSettings, refusal: Fault = _OF_COMMAND) -> socket.socket:
    """Return a listening socket; require a key if other machines can reach it.

    Raises:
        RunError: listening on the address failed.
        SpecError: other machines could send requests without a key; it is ``refusal``, with the
            reason added.
    """
    host, port = settings.task.host, settings.task.port
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family)
    except OSError as error:
        is_of_names = isinstance(error, socket.gaierror)
        why = str(error.strerror) if is_of_names else os.strerror(error.errno or 0)
        cure = _other_address(error, refusal.key.partition(" ")[0])
        message = f"{host}:{port}: can't be listened on: {why}; {cure}"
        raise RunError("G2-535", message) from None
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
    """Return the remedy for an unusable address; ``host`` is the key or option of the host."""
    port = host.replace("host", "port")
    equals = " " if host.startswith("--") else " = "
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host}{equals}127.0.0.1 is this machine alone, 0.0.0.0 all of its addresses"
    if error.errno == errno.EACCES:
        return f"the system keeps ports below 1024; {port}{equals}8000 is open to all"
    return f"{port} takes another, {port}{equals}0 a free one"


def named_adapters(options: Sequence[str], base: str) -> dict[str, str]:
    """Parse adapters written as ``NAME=PATH`` to name → path; ``base`` names the weights.

    Raises:
        InputError: it lists every invalid adapter.
    """
    adapters: dict[str, str] = {}
    faults = []
    for option in options:
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


def refuse_absent(weights: str, settings: ServerSettings) -> None:
    """Refuse weights and adapters that do not exist and can't be names on the Hub.

    Raises:
        InputError: there is no such file, folder or run.
    """
    location.refuse_absent(weights)
    for name, path in settings.adapters.items():
        with of_option(f"--adapter {name}={path}", path):
            location.refuse_absent(path)


@contextmanager
def of_option(option: str, path: str) -> Iterator[None]:
    """Re-raise faults of a path under the option that names it.

    Raises:
        InputError: the same faults, with the option as their key.
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
