"""The server process: a socket, uvicorn and the worker thread."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn
from typing_extensions import override

from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.engine.progress import say, saying
from gpt2dsl.errors import RunError
from gpt2dsl.serve import check
from gpt2dsl.serve.app import app
from gpt2dsl.serve.connection import Connection
from gpt2dsl.serve.limits import Limits
from gpt2dsl.serve.service import Service
from gpt2dsl.serve.settings import ServerSettings, of_option
from gpt2dsl.serve.stop import Stop
from gpt2dsl.serve.worker import GenerationWorker
from gpt2dsl.weights.infer_config import Overrides

SWITCH = 0.0002
"""Switch interval of the GIL in seconds. A step reacquires the GIL some hundred times and would
wait Python's 5 ms each time while a body is parsed."""

FAREWELL = 2.0
"""Seconds for clients to read the final error before their connections are closed."""


def serve(
    weights: str,
    name: str,
    settings: ServerSettings,
    listening: socket.socket,
    stop: Stop,
    *,
    loader: Callable[[], LanguageModel] | None = None,
) -> tuple[str, int]:
    """Serve until SIGTERM or Ctrl-C, then finish accepted requests within the grace period.

    Args:
        weights: as in ``LanguageModel.load``.
        name: the name of the model in requests.
        settings: the settings of the server.
        listening: the listening socket.
        stop: the signals; it may be asked to stop before it has begun.
        loader: returns the model, in place of loading it from ``weights``.

    Returns:
        The address, and the number of generated tokens.

    Raises:
        RunError: the check fails.
        InputError: the weights are missing or corrupt.
    """
    url = _url(settings, listening)
    if stop.is_wanted:
        listening.close()
        say("stopped")
        return url, 0
    task = settings.task
    worker = GenerationWorker(
        lambda: load(weights, settings, loader),
        batch=task.batch,
        waiting=task.queue,
        cache=task.cache_mb << 20,
        warm_up=task.warmup,
        tell=say,
    )
    limits = Limits(body=task.max_body, stops=task.max_stops, texts=task.batch + task.queue)
    roots = {name: weights, **settings.adapters}
    service = Service(worker, name, limits, settings.template, roots)
    server = _Server(service, settings, url, stop, f"loading {weights} and compiling")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    worker.start()
    say(f"listening on {url}")
    try:
        server.run(sockets=[listening])
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval)
        worker.stop()
        is_loading = not worker.model.done()
        worker.join(0 if stop.is_process and is_loading else FAREWELL)
    if worker.model.done() and (error := worker.model.exception()):
        raise error
    if server.fault:
        raise server.fault
    is_complete = worker.model.done() and not server.is_cut
    say("stopped" + ("; all requests that were accepted are answered" if is_complete else ""))
    return url, worker.counters.generated_tokens


def load(
    weights: str, settings: ServerSettings, loader: Callable[[], LanguageModel] | None = None
) -> LanguageModel:
    """Load weights and their adapters, with ``loader`` in place of ``LanguageModel.load`` if given.

    Raises:
        InputError: the weights or adapters are missing or corrupt.
    """
    if loader:
        model = loader()
    else:
        overrides = Overrides.of(settings.network, fetch=True)
        model = LanguageModel.load(weights, overrides, tokenizer=settings.tokenizer)
        overrides.require(model.geometry, weights)
    for name, path in settings.adapters.items():
        with of_option(f"--adapter {name}={path}", path):
            model.load_adapter(name, path, base=weights, tokenizer=settings.tokenizer)
    return model


def _url(settings: ServerSettings, listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    shown = settings.task.host if settings.task.host != "localhost" else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


class _Server(uvicorn.Server):
    """uvicorn's server, which responds while the model loads and stops within the grace period."""

    def __init__(
        self,
        service: Service,
        settings: ServerSettings,
        url: str,
        stop: Stop,
        loading: str,
    ) -> None:
        self._service, self._settings, self._loading = service, settings, loading
        self._url, self._stop = url, stop
        self.is_cut = False
        self.fault: RunError | None = None
        routes = app(
            service,
            hosts=(settings.task.host, *settings.task.allowed_hosts),
            key=settings.key,
            origins=settings.task.cors,
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
        self._stop.begin()
        await super().startup(sockets)
        self._start = asyncio.create_task(self._say_when_ready())

    async def _say_when_ready(self) -> None:
        """Report when the model is loaded, or stop if it fails to load."""
        model = self._service.worker.model
        try:
            with saying(self._loading):
                await asyncio.shield(asyncio.wrap_future(model))
        except Exception:  # noqa: BLE001  # serve raises it once the sockets are closed
            self.should_exit = True
            return
        # Exempt the loaded model from garbage collection, which would delay every stream.
        gc.collect()
        gc.freeze()
        names = ", ".join([self._service.name, *self._settings.adapters])
        say(f"serving {names} on {self._url}/v1")
        if self._settings.checks:
            try:
                for line in await asyncio.to_thread(check.check, self._url, self._settings.key):
                    say(line)
            except RunError as error:
                self.fault = error
            self.should_exit = True

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully at the first signal, immediately at the second."""
        self._stop.note(sig, frame)

    @override
    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_wanted

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._start.cancel()
        self._service.is_stopping = True
        loop = asyncio.get_running_loop()
        timers = [
            loop.call_later(self._settings.task.grace, self._give_up),
            loop.call_later(self._settings.task.grace + FAREWELL, self._cut),
        ]
        await super().shutdown(sockets)
        for timer in timers:
            timer.cancel()

    def _give_up(self) -> None:
        """End the remaining answers with an error."""
        self.is_cut = True
        self._service.give_up()

    def _cut(self) -> None:
        """Close the connections of clients that do not read."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
