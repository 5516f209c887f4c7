"""The thread that generates: turns, failures, and what it counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from gpt2dsl import Generation
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.chunked_slots import ChunkedSlots
from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.language_model import LanguageModel, network_of
from gpt2dsl.serve.worker import Event, GenerationWorker, Ticket
from tests.engine.conftest import text
from tests.judges import TINY, random_weights


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    tokenizer = Tokenizer.train([text(400)], TINY.vocab)
    return LanguageModel(network_of(TINY, random_weights(TINY), "cpu"), tokenizer)


@pytest.fixture(scope="module")
def worker(model: LanguageModel) -> Iterator[GenerationWorker]:
    made = GenerationWorker(lambda: model, batch=2, waiting=200)
    made.start()
    made.model.result()
    yield made
    made.stop()
    made.join()


class Listener:
    """Hears what becomes of the texts of one request."""

    def __init__(self, rows: list[Row], order: list[str] | None = None, name: str = "") -> None:
        self.events: list[Event] = []
        self.is_done = threading.Event()
        self._left, self._order, self._name = len(rows), order, name
        self.ticket = Ticket(rows, [], self._hear)

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        if event.is_over or event.failure:
            self._left -= 1
            if self._order is not None:
                self._order.append(self._name)
        if not self._left:
            self.is_done.set()

    def wait(self) -> str:
        assert self.is_done.wait(240)
        return "".join(event.piece for event in self.events)


def asked(model: LanguageModel, prompt: Any = "the", **settings: Any) -> Row:
    return model.row(prompt, Generation(**{"max_new_tokens": 5} | settings), stops_in_prompt=False)


def test_requests_take_turns_however_many_texts_each_asks_for(
    model: LanguageModel, worker: GenerationWorker
) -> None:
    order: list[str] = []
    many = Listener([asked(model, max_new_tokens=4) for _ in range(40)], order, "many")
    few = Listener([asked(model, max_new_tokens=4) for _ in range(2)], order, "few")
    with worker._changed:  # both are there before either begins
        worker.submit(many.ticket)
        worker.submit(few.ticket)
    few.wait()
    assert order.count("many") < 12
    many.wait()


def test_a_long_prompt_holds_up_no_text_that_runs() -> None:
    tokenizer = Tokenizer.train([text(400)], TINY.vocab)
    geometry = attrs.evolve(TINY, positions=1024)
    lm = LanguageModel(network_of(geometry, random_weights(geometry), "cpu"), tokenizer)
    worker = GenerationWorker(lambda: lm, batch=2, waiting=4)
    worker.start()
    worker.model.result()
    running = Listener([asked(lm, max_new_tokens=1000, min_new_tokens=1000)])
    worker.submit(running.ticket)
    while not running.events:
        time.sleep(0.01)
    before = len(running.events)
    during: list[int] = []
    prompt = asked(lm, [(i * i) % 300 for i in range(1000)], max_new_tokens=1)
    worker.submit(Ticket([prompt], [], lambda _: during.append(len(running.events))))
    while not during:
        time.sleep(0.01)
    running.ticket.cancel()
    worker.stop()
    worker.join()
    assert worker.counters.prefilled_tokens == 1000 + len(running.ticket.rows[0].request.ids)
    assert during[0] - before >= 4  # of 32 chunks


def test_no_text_waits_for_more_than_three_steps_between_two_tokens(
    model: LanguageModel, worker: GenerationWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("advance", "step"):
        original = getattr(ChunkedSlots, name)

        def called(slots: ChunkedSlots, name: str = name, original: Any = original) -> Any:
            if slots.busy:  # else nothing waits
                calls.append(name)
            return original(slots)

        monkeypatch.setattr(ChunkedSlots, name, called)
    running = Listener([asked(model, max_new_tokens=70, min_new_tokens=70)])
    prompts = [[(i * i + j) % 300 for i in range(70)] for j in range(20)]
    waiting = [Listener([asked(model, ids, max_new_tokens=4)]) for ids in prompts]
    for listener in (running, *waiting):
        worker.submit(listener.ticket)
    for listener in (running, *waiting):
        listener.wait()
    between = [len(chunks) for chunks in "".join(call[0] for call in calls).split("s")]
    assert max(between) <= 2
    assert sum(between) >= 20


def test_a_text_that_fails_fails_alone(model: LanguageModel, worker: GenerationWorker) -> None:
    alone = Listener([asked(model, max_new_tokens=20)])
    worker.submit(alone.ticket)
    expected = alone.wait()
    broken = Listener([asked(model, repetition_penalty=5e-324), asked(model, max_new_tokens=20)])
    good = Listener([asked(model, max_new_tokens=20)])
    worker.submit(good.ticket)
    worker.submit(broken.ticket)
    assert good.wait() == expected
    assert broken.wait() == expected
    (failed,) = (event for event in broken.events if event.failure)
    assert failed.index == 0
    assert failed.is_refusal
    assert "generation.repetition_penalty = 5e-324" in failed.failure


def test_a_listener_that_fails_disturbs_nobody(
    model: LanguageModel, worker: GenerationWorker
) -> None:
    def gone(_: Event) -> None:
        raise RuntimeError("the loop is closed")

    good = Listener([asked(model, max_new_tokens=9)])
    worker.submit(Ticket([asked(model, max_new_tokens=60)], [], gone))
    worker.submit(good.ticket)
    assert good.wait()


def test_what_is_cancelled_frees_its_places(model: LanguageModel, worker: GenerationWorker) -> None:
    left = Listener([asked(model, max_new_tokens=70, min_new_tokens=70) for _ in range(100)])
    worker.submit(left.ticket)
    left.ticket.cancel()
    good = Listener([asked(model)])
    worker.submit(good.ticket)
    good.wait()
    assert len([event for event in left.events if event.is_over]) < 50
    assert worker.counts == (0, 0)


def test_the_worker_counts_what_it_does(model: LanguageModel, worker: GenerationWorker) -> None:
    prompt = [(11 * i) % 300 for i in range(70)]
    before = worker.counters
    for known in (0, 64):
        listener = Listener([asked(model, prompt)])
        worker.submit(listener.ticket)
        listener.wait()
        assert worker.counters.cached_tokens - before.cached_tokens == known
    after = worker.counters
    assert after.prefilled_tokens - before.prefilled_tokens == 70 + 6
    assert after.generated_tokens - before.generated_tokens == 10
    assert after.cache_bytes > 0
    assert after.steps > before.steps


def test_penalties_of_openais_api_lower_what_was_generated(
    model: LanguageModel, worker: GenerationWorker
) -> None:
    plain = asked(model, "the", max_new_tokens=30)
    (free,) = model.continuations(["the"], Generation(max_new_tokens=30))
    penalties: tuple[dict[str, Any], ...] = ({"presence_penalty": 2.0}, {"frequency_penalty": 2.0})
    for more in penalties:
        row = Row(attrs.evolve(plain.request, **more))
        listener = Listener([row])
        worker.submit(listener.ticket)
        listener.wait()
        assert len(set(row.generated)) >= len(set(free.ids))
        assert row.generated[0] == free.ids[0]
