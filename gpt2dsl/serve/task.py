"""The task serve, which runs until it is stopped."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gpt2dsl.engine.interrupt import held
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.parts.task import Serve
from gpt2dsl.plan import serving
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import weights_name
from gpt2dsl.plan.serving import API_KEY
from gpt2dsl.serve.settings import ServerSettings, listen
from gpt2dsl.serve.stop import Stop

if TYPE_CHECKING:
    from gpt2dsl.engine.language_model import LanguageModel


def run(job: Job) -> Result:
    """Serve the weights of the recipe until SIGTERM or Ctrl-C.

    Raises:
        SpecError: other machines could send requests without a key.
        RunError: the address can't be listened on, or an event loop is running in this thread.
    """
    task = job.parts.task
    assert isinstance(task, Serve)
    serving.refuse_event_loop()
    settings = ServerSettings(task=task, key=_key())
    exposed = fault(job.parts, "G2-202", "task.host", f"set {API_KEY}", "task.port")
    name = serving.name_of(job.parts)
    with Stop() as stop:
        listening = listen(settings, exposed)
        with held():
            from gpt2dsl.serve.server import serve  # noqa: PLC0415  # imports MindSpore
        weights = weights_name(job.parts)
        url, tokens = serve(weights, name, settings, listening, stop, loader=lambda: _model(job))
    return Result(task="serve", url=url, tokens=tokens, notes=job.notes)


def _key() -> str:
    """Return the required API key, "" for none."""
    key = os.environ.get(API_KEY, "")
    if key and not key.strip():
        raise serving.blank_key()
    return key


def _model(job: Job) -> LanguageModel:
    """Return the model with the recipe's ``[generation]`` as defaults of requests."""
    from gpt2dsl.engine.language_model import LanguageModel  # noqa: PLC0415  # imports MindSpore

    model = LanguageModel.of_job(job)
    defaults = serving.defaults_of_requests(job.parts.generation)
    model.defaults = model.defaults.overridden(defaults)
    return model
