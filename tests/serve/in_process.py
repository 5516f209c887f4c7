"""The routes over a model in this process, without a socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

import gpt2dsl
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.serve.app import app
from gpt2dsl.serve.limits import Limits
from gpt2dsl.serve.server import load
from gpt2dsl.serve.service import Service
from gpt2dsl.serve.settings import ServerSettings
from gpt2dsl.serve.worker import GenerationWorker

PLAN = [65, 66, 67, 68, 69, 70, 71, 264, 72, 310, 73]
ROWS = 320
"""Of the word table; the tokenizer has 265 ids, the last of them special."""


class Client:
    """The routes over a model that is loaded once, with its adapters."""

    def __init__(
        self, folder: Path, template: str | None = None, adapters: Mapping[str, str] | None = None
    ) -> None:
        settings = ServerSettings(adapters=adapters or {})
        self.worker = GenerationWorker(lambda: load(str(folder), settings), batch=4, waiting=8)
        self.worker.start()
        self.lm: LanguageModel = self.worker.model.result()
        service = Service(self.worker, "org/m", Limits(texts=12), template, settings.adapters)
        self.http = TestClient(app(service), "http://localhost")

    def close(self) -> None:
        self.worker.stop()
        self.worker.join()

    def post(self, **body: Any) -> Any:
        return self.http.post("/v1/completions", json={"model": "org/m", "temperature": 0} | body)

    def choice(self, **body: Any) -> dict[str, Any]:
        answer = self.post(**body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["choices"][0]
        return found

    def streamed(self, **body: Any) -> tuple[str, str]:
        """The joined text of a stream, and why it ended."""
        lines = self.post(stream=True, **body).text.split("\n\n")
        events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
        choices = [event["choices"][0] for event in events]
        return "".join(one["text"] for one in choices), choices[-1]["finish_reason"]


class Never(GenerationWorker):
    """A worker whose model never comes."""

    def __init__(self) -> None:
        super().__init__(gpt2dsl.load, batch=1, waiting=1)  # type: ignore[arg-type]

    def is_alive(self) -> bool:
        return True
