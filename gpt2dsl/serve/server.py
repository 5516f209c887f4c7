"""The process: a socket, uvicorn, and the worker beside it."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import attrs
import uvicorn
from typing_extensions import override

from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.engine.progress import say, saying
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.serve import check
from gpt2dsl.serve.app import app
from gpt2dsl.serve.connection import Connection
from gpt2dsl.serve.limits import Limits
from gpt2dsl.serve.service import Service
from gpt2dsl.serve.settings import Settings
from gpt2dsl.serve.worker import Worker
from gpt2dsl.weights.infer_config import Overrides

SWITCH = 0.0002
"""Seconds after which a thread passes the interpreter on. A step takes it again some hundred times,
each of which would wait for Python's 5 ms where a body is looked at."""

FAREWELL = 2.0
"""Seconds in which clients can read why their answers end, before their connections are cut."""


def serve(
    weights: str,
    name: str,
    settings: Settings,
    listening: socket.socket,
    loader: Callable[[], LanguageModel] | None = None,
) -> tuple[str, int]:
    """Serve until SIGTERM or Ctrl-C; what runs then is finished, within the grace.

    Args:
        weights: as in ``LanguageModel.load``.
        name: of the model, as requests say it.
        settings: how.
        listening: the socket that is listened on.
        loader: gives the model, where it is not just that of the weights.

    Returns:
        The address, and the tokens that were generated.

    Raises:
        RunError: the check fails.
        InputError: there are no such weights, or they are damaged.
    """
    worker = Worker(
        lambda: load(weights, settings, loader),
        batch=settings.batch,
        waiting=settings.waiting,
        cache=settings.cache,
        warm_up=settings.warms_up,
        tell=say,
    )
    limits = Limits(
        body=settings.max_body, stops=settings.max_stops, texts=settings.batch + settings.waiting
    )
    roots = {name: weights, **settings.adapters}
    service = Service(worker, name, limits, settings.template, roots)
    server = _Server(service, settings, listening, f"loading {weights} and compiling")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    worker.start()
    say(f"listening on {server.url}")
    try:
        server.run(sockets=[listening])
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval)
        worker.stop()
        worker.join(FAREWELL)
    if worker.model.done() and (error := worker.model.exception()):
        raise error
    if server.fault:
        raise server.fault
    say("stopped" + ("" if server.is_cut else "; all requests that were accepted are answered"))
    return server.url, worker.counters.generated_tokens


def load(
    weights: str, settings: Settings, loader: Callable[[], LanguageModel] | None = None
) -> LanguageModel:
    """Load weights and their adapters.

    Args:
        weights: as in ``LanguageModel.load``.
        settings: that name the adapters.
        loader: gives the model of the weights, where it is not just that.

    Raises:
        InputError: there are no such weights or adapters, or they are damaged.
    """
    if loader:
        model = loader()
    else:
        model = LanguageModel.load(weights, Overrides(fetch=True), tokenizer=settings.tokenizer)
    for name, path in settings.adapters.items():
        with _of_option(f"--adapter {name}={path}", path):
            model.load_adapter(name, path, base=weights, tokenizer=settings.tokenizer)
    return model


@contextmanager
def _of_option(option: str, path: str) -> Iterator[None]:
    """Tell faults of a path under the option that names it.

    Raises:
        InputError: with the same faults.
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


class _Server(uvicorn.Server):
    """uvicorn's server, which answers while the model loads, and ends within the grace.

    Attributes:
        is_cut: whether answers were given up.
        fault: of the check.
        url: of it.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        listening: socket.socket,
        loading: str,
    ) -> None:
        self._service, self._settings, self._loading = service, settings, loading
        self.is_cut = False
        self.fault: RunError | None = None
        host, port = listening.getsockname()[:2]
        shown = settings.host if settings.host != "localhost" else host
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
        routes = app(
            service,
            hosts=(settings.host, *settings.hosts),
            key=settings.key,
            origins=settings.origins,
        )
        super().__init__(
            uvicorn.Config(
                routes,
                http=Connection,
                ws="none",
                lifespan="off",
                log_level="error",
                access_log=False,
                proxy_headers=False,
                backlog=512,
            )
        )

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._start = asyncio.create_task(self._say_when_ready())

    async def _say_when_ready(self) -> None:
        """Say when the model is there, and end where it can't be."""
        model = self._service.worker.model
        try:
            with saying(self._loading):
                await asyncio.wrap_future(model)
        except Exception:  # noqa: BLE001  # serve raises it once the sockets are closed
            self.should_exit = True
            return
        # What stays is not looked at again: a full collection would hold every stream up.
        gc.collect()
        gc.freeze()
        names = ", ".join([self._service.name, *self._settings.adapters])
        say(f"serving {names} on {self.url}/v1")
        if self._settings.checks:
            try:
                for line in await asyncio.to_thread(check.check, self.url, self._settings.key):
                    say(line)
            except RunError as error:
                self.fault = error
            self.should_exit = True

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End at the first signal with what runs, at the second at once."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._start.cancel()
        self._service.is_stopping = True
        loop = asyncio.get_running_loop()
        timers = [
            loop.call_later(self._settings.grace, self._give_up),
            loop.call_later(self._settings.grace + FAREWELL, self._cut),
        ]
        await super().shutdown(sockets)
        for timer in timers:
            timer.cancel()

    def _give_up(self) -> None:
        """Tell those who still wait that their answers end."""
        self.is_cut = True
        self._service.give_up()

    def _cut(self) -> None:
        """Cut the connections of clients that read nothing."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
