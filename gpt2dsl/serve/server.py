"""The process: a socket, uvicorn, and the worker beside it."""

from __future__ import annotations

import os
import socket

import uvicorn

from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.engine.progress import say, saying
from gpt2dsl.errors import RunError
from gpt2dsl.serve.app import app
from gpt2dsl.serve.worker import Worker
from gpt2dsl.weights.guess import Hints


def serve(
    weights: str,
    name: str,
    *,
    tokenizer: str = "auto",
    host: str,
    port: int,
    batch: int,
    waiting: int,
) -> None:
    """Serve until SIGTERM or Ctrl-C; what runs then is finished.

    Args:
        weights: as in ``LanguageModel.load``.
        name: of the model, as requests say it.
        tokenizer: auto for the one beside the weights, gpt2, or a folder.
        host: address that is listened on.
        port: of it; 0 for a free one.
        batch: texts that are generated at once.
        waiting: texts that may wait.

    Raises:
        RunError: the address can't be listened on.
        InputError: there are no such weights, or they are damaged.
    """
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise RunError(f"{host}:{port}: can't be listened on: {why}") from None
    worker = Worker(
        lambda: LanguageModel.load(weights, Hints(fetch=True), tokenizer=tokenizer),
        batch=batch,
        waiting=waiting,
    )
    worker.start()
    with saying(f"loading {weights} and compiling"):
        worker.model.result()
    config = uvicorn.Config(app(worker, name), log_level="warning")
    say(f"serving {name} on http://{host}:{listening.getsockname()[1]}/v1")
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # uvicorn has finished what ran, and says the signal again
    finally:
        worker.stop()
        worker.join()
    say("stopped; all requests that were accepted are answered")
