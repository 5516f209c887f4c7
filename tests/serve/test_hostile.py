"""Hostile requests beside well-behaved streams, which must notice nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serve import hostile
from tests.serve.conftest import Server

STREAMS, REQUESTS = 8, 2000


class Stream(threading.Thread):
    """A client that asks for one text again and again, and notes when its tokens came."""

    def __init__(self, server: Server, number: int) -> None:
        super().__init__(daemon=True)
        self._client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        self._number, self.is_enough = number, threading.Event()
        self.texts: list[str] = []
        self.waits: list[float] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self.is_enough.is_set() or not self.texts:
                self.texts.append(self._text())
        except Exception as error:  # noqa: BLE001  # the test tells it
            self.failure = error

    def _text(self) -> str:
        settings: Any = {"seed": self._number, "max_tokens": 60}
        stream = self._client.completions.create(
            model="tiny", prompt="the old cat " * self._number, stream=True, **settings
        )
        pieces, before = [], 0.0
        for event in stream:
            now = time.monotonic()
            if before:
                self.waits.append(now - before)
            before = now
            pieces.append(event.choices[0].text)
        return "".join(pieces)


def streams(server: Server) -> list[Stream]:
    """Streams that have begun, each having told a whole text."""
    started = [Stream(server, number) for number in range(STREAMS)]
    for stream in started:
        stream.start()
    while any(not stream.texts and stream.is_alive() for stream in started):
        time.sleep(0.05)
    return started


def memory(server: Server) -> int:
    """The resident memory of the process, in KiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_hostile_requests_change_nothing_for_others(weights: Path) -> None:
    own = Server(weights, "--batch", str(STREAMS + 2), "--warmup", "--grace", "20")
    undisturbed = streams(own)
    for stream in undisturbed:
        stream.is_enough.set()
        stream.join()
    disturbed = streams(own)

    @settings(
        max_examples=REQUESTS, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        request=st.one_of(hostile.BODIES, hostile.WIRE),
        reads=st.booleans(),
        half_closes=st.booleans(),
    )
    def attack(request: bytes, reads: bool, half_closes: bool) -> None:
        answer = hostile.send(own.port, request, reads=reads, half_closes=half_closes)
        if answer:
            status = int(answer.split(b" ", 2)[1])
            assert status < 500 or status == 503, answer

    attack()  # brings every cache to the size that it has under attack
    before = memory(own)
    attack()
    after = memory(own)
    for stream in disturbed:
        stream.is_enough.set()
        stream.join()
    assert [stream.failure for stream in disturbed] == [None] * STREAMS
    for calm, stream in zip(undisturbed, disturbed, strict=True):
        assert set(stream.texts) == set(calm.texts)
        assert len(set(calm.texts)) == 1
    waits = np.concatenate([stream.waits for stream in disturbed])
    assert np.quantile(waits, 0.999) < 5 * np.median(waits)
    assert after < before * 1.02
    assert own.stop() == 0
