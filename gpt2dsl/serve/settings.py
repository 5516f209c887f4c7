"""How a server is run, and the socket that it listens on: known before MindSpore is loaded."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import attrs

from gpt2dsl.errors import InputError, RunError
from gpt2dsl.terminal import say


@attrs.frozen(kw_only=True)
class Settings:
    """How a server is run.

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
        batch: texts that are generated at once.
        waiting: texts that may wait.
        cache: bytes that are kept of prompts, for those that begin alike.
        warms_up: whether the graphs of all lengths are compiled before it is ready.
        max_body: bytes of a request's body.
        max_stops: stop strings of a request.
        checks: answer one request of its own, and end.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    hosts: Sequence[str] = ()
    key: str = attrs.field(default="", repr=False)
    origins: Sequence[str] = ()
    is_open: bool = False
    grace: float = 30.0
    tokenizer: str = "auto"
    template: str | None = attrs.field(default=None, repr=False)
    batch: int = 8
    waiting: int = 128
    cache: int = 256 << 20
    warms_up: bool = True
    max_body: int = 1 << 20
    max_stops: int = 4
    checks: bool = False


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens; one that others reach needs a key.

    Raises:
        RunError: the address can't be listened on.
        InputError: others could ask without a key.
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
        cure = "set GPT2DSL_API_KEY (--api-key), or say --insecure"
        raise InputError("G2-202", "--host", f"anyone who reaches {host} could ask: {cure}")
    say(f"warning: anyone who reaches {host} can use this server: it needs no key")
    return listening


def read_template(path: Path) -> str:
    """Return the content of a chat template's file.

    Raises:
        InputError: it can't be read.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise InputError("G2-301", path, "there is no such file") from None
    except UnicodeDecodeError as error:
        raise InputError("G2-303", path, f"not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise InputError("G2-304", path, f"can't be read: {error.strerror}") from None
