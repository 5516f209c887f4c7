from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.weights.formats import huggingface
from tests.engine.conftest import text
from tests.judges import TINY, random_weights
from tests.serve.in_process import PLAN, ROWS, Client
from tests.vocabularies import says, vocabulary

LONG = attrs.evolve(TINY, positions=2048, layers=8)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with many positions: its texts can take seconds."""
    folder = tmp_path_factory.mktemp("served")
    tokenizer = Tokenizer.train([text(400)], LONG.vocab)
    huggingface.write(folder, LONG, random_weights(LONG), tokenizer)
    return folder


class Server:
    """A process of ``gpt2dsl serve``.

    Args:
        weights: that it serves.
        options: of the command.
        until: what it says when it is far enough.
        env: variables, besides those of this process.
    """

    def __init__(
        self,
        weights: Path,
        *options: str,
        until: str = "serving tiny on ",
        env: dict[str, str] | None = None,
    ) -> None:
        words = [sys.executable, "-m", "gpt2dsl", "serve", str(weights), "--name", "tiny"]
        words += ["--no-warmup"]  # the last of two flags counts
        self.process = subprocess.Popen(
            [*words, "--port", "0", *options],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | (env or {}),
        )
        assert self.process.stderr
        self.lines: list[str] = []
        for line in self.process.stderr:
            self.lines.append(line)
            if "listening on " in line:
                root = line.split(" on ")[1].strip()
                self.url, self.port = f"{root}/v1", int(root.rpartition(":")[2])
            if until in line:
                return
        raise AssertionError("".join(self.lines))

    def health(self) -> Any:
        with urllib.request.urlopen(self.url.replace("/v1", "/health")) as answer:  # noqa: S310
            return json.loads(answer.read())

    def wait_until_idle(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.health()["running"] or self.health()["waiting"]:
            assert time.monotonic() < end, "still running"
            time.sleep(0.02)

    def stop(self, seconds: float = 60) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        _, rest = self.process.communicate(timeout=seconds)
        self.lines.append(rest)
        return self.process.returncode


@pytest.fixture(scope="session")
def server(weights: Path) -> Iterator[Server]:
    one = Server(weights)
    yield one
    assert one.stop() == 0, "".join(one.lines)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model that says the alphabet, and one that says a newline and the cat after "the\\n"."""
    parent = tmp_path_factory.mktemp("says")
    found = {}
    for name in ("alphabet", "newline"):
        tokenizer = vocabulary(parent / name)
        tokenizer.add_tokens(["<|user|>"], special_tokens=True)
        tokenizer.save_pretrained(parent / name)
        lead = len(tokenizer("the\n").input_ids) - 1
        plan = [0] * lead + tokenizer("\nthe catxyz").input_ids
        model = says(PLAN if name == "alphabet" else plan, ROWS)
        model.generation_config.eos_token_id = model.config.eos_token_id = 263
        model.save_pretrained(parent / name)
        found[name] = parent / name
    return found


@pytest.fixture(scope="session")
def clients(folders: dict[str, Path]) -> Iterator[dict[str, Client]]:
    made = {name: Client(folder) for name, folder in folders.items()}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture(scope="session")
def alphabet(clients: dict[str, Client]) -> Client:
    return clients["alphabet"]


@pytest.fixture(scope="session")
def newline(clients: dict[str, Client]) -> Client:
    return clients["newline"]
