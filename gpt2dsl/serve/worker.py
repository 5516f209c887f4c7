"""The generating thread: continuous batching of the texts of all requests, with a queue."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import attrs

from gpt2dsl.engine.generation.chunked_slots import ChunkedSlots
from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.generation.scores import NoChoiceError
from gpt2dsl.engine.generation.stops import Stops
from gpt2dsl.engine.generation.text import Pieces
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.serve import priority
from gpt2dsl.signals import COMPUTING

CACHE = 256 << 20
"""Default bytes of the prefix cache."""

TURNS = 2
"""Maximum turns of prefill between two steps."""

EAGERNESS = 4
"""Growth of the time for prefill between two steps with the fraction of free slots, from one step's
time to two. A running text thus waits for at most three steps, its own included; when few texts
run, steps are worth less than the texts that join them."""


class BusyError(Exception):
    """The queue is full, or the server is going down."""


@attrs.frozen
class Event:
    """Progress, completion or failure of the text with this index in its request.

    Attributes:
        failure: the reason of a failure; "" for none.
        is_refusal: whether the request is at fault for the failure.
    """

    index: int
    piece: str = ""
    is_over: bool = False
    failure: str = ""
    is_refusal: bool = False


@attrs.frozen
class Counters:
    """Totals of a worker since its start, and the present size of its prefix cache."""

    generated_tokens: int = 0
    prefilled_tokens: int = 0
    cached_tokens: int = 0
    cache_bytes: int = 0
    steps: int = 0


class Ticket:
    """A request in the worker, in whose thread ``tell`` receives the events of its texts."""

    def __init__(
        self, rows: Sequence[Row], stop: Sequence[str], tell: Callable[[Event], None]
    ) -> None:
        self.rows, self.tell = list(rows), tell
        self.is_cancelled = False
        self._places = {id(row): place for place, row in enumerate(self.rows)}
        stops = Stops(stop)
        self._pieces = [Pieces(rows[0].request.tokenizer, stops) for _ in rows]
        self._told = [0] * len(rows)

    def cancel(self) -> None:
        """Cancel the request: its slots are freed before the next step."""
        self.is_cancelled = True

    def report(self, row: Row) -> None:
        """Send the progress or failure of a text."""
        index = self._places[id(row)]
        if row.failure:
            self.fail(row, row.failure)
            return
        piece = self._pieces[index].add(row.said[self._told[index] :])
        self._told[index] = len(row.said)
        if row.ended:
            piece += self._pieces[index].rest()
        self._tell(Event(index, piece, is_over=bool(row.ended)))

    def fail(self, row: Row, error: Exception) -> None:
        is_refusal = isinstance(error, NoChoiceError)
        words = str(error) if is_refusal else f"{type(error).__name__}: {error}"
        self._tell(Event(self._places[id(row)], failure=words, is_refusal=is_refusal))

    def _tell(self, event: Event) -> None:
        try:
            self.tell(event)
        except Exception:  # noqa: BLE001  # this listener is gone; others are not
            self.cancel()


class GenerationWorker(threading.Thread):
    """A thread that generates until it is stopped.

    Prefill is chunked between the steps of running texts, so that none of them waits for a whole
    prompt; requests take turns, however many texts each asks for.

    Args:
        load: returns the model; called in this thread.
        batch: texts that are generated concurrently.
        waiting: maximum number of waiting texts.
        cache: bytes of the prefix cache.
        warm_up: compile the graphs of all lengths first; otherwise they are compiled as texts
            become longer, and all texts wait for that.
        tell: receives messages about compilation.

    Attributes:
        model: future of the loaded and compiled model, or of the error.
        capacity: maximum number of running and waiting texts.
    """

    def __init__(
        self,
        load: Callable[[], LanguageModel],
        *,
        batch: int,
        waiting: int,
        cache: int = CACHE,
        warm_up: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(name=COMPUTING, daemon=True)
        self.model: Future[LanguageModel] = Future()
        self._load, self._batch, self.capacity = load, batch, batch + waiting
        self._cache, self._warms_up, self._say = cache, warm_up, tell
        self._changed = threading.Condition()
        self._waiting: OrderedDict[Ticket, deque[Row]] = OrderedDict()
        self._running: dict[int, tuple[Ticket, Row]] = {}
        self._is_stopping = False
        self._seconds = 0.0  # recent duration of a step
        self._generated = self._steps = 0
        self._slots: ChunkedSlots | None = None

    @property
    def counts(self) -> tuple[int, int]:
        with self._changed:
            return len(self._running), sum(map(len, self._waiting.values()))

    @property
    def counters(self) -> Counters:
        if (slots := self._slots) is None:
            return Counters()
        return Counters(
            generated_tokens=self._generated,
            prefilled_tokens=slots.prefilled_tokens,
            cached_tokens=slots.cached_tokens,
            cache_bytes=slots.prefixes.bytes,
            steps=self._steps,
        )

    def submit(self, ticket: Ticket) -> None:
        """Queue a request.

        Raises:
            BusyError: the queue has no room for it, or the worker is stopping.
        """
        with self._changed:
            if self._is_stopping or not self.is_alive():
                raise BusyError("the server is going down")
            running, waiting = self.counts
            if running + waiting + len(ticket.rows) > self.capacity:
                raise BusyError(f"{waiting} texts are waiting already; try again later")
            self._waiting[ticket] = deque(ticket.rows)
            self._changed.notify()

    def stop(self) -> None:
        """Finish running and waiting texts, then end."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()

    def run(self) -> None:
        """Load the model, compile it and generate; the body of the thread."""
        try:
            model = self._load()
            slots = self._slots = model.chunked_slots(self._batch, self._cache)
            for purpose in slots.warm_up(all_lengths=self._warms_up):
                if self._is_stopping:
                    return
                self._say(f"compiling for {purpose}")
        except BaseException as error:  # noqa: BLE001  # raised where the model is awaited
            self.model.set_exception(error)
            return
        priority.come_first()
        self.model.set_result(model)
        while self._has_work():
            self._drop_cancelled(slots)
            try:
                self._take_prompts(slots)
                if slots.busy:
                    self._step(slots)
            except Exception as error:  # noqa: BLE001  # reported to the waiting requests
                self._fail(slots, error)

    def _has_work(self) -> bool:
        """Wait for work; return False once stopped and idle."""
        with self._changed:
            while not (self._waiting or self._running or self._is_stopping):
                self._changed.wait()
            return bool(self._waiting or self._running)

    def _drop_cancelled(self, slots: ChunkedSlots) -> None:
        """Drop the texts of cancelled requests and free their slots."""
        with self._changed:
            for ticket in [queued for queued in self._waiting if queued.is_cancelled]:
                del self._waiting[ticket]
            dropped = [row for ticket, row in self._running.values() if ticket.is_cancelled]
            for row in dropped:
                del self._running[id(row)]
        for row in dropped:
            slots.drop(row)

    def _take_prompts(self, slots: ChunkedSlots) -> None:
        """Prefill for one turn, and for more while time and slots last."""
        began = before = time.perf_counter()
        for _ in range(TURNS):
            if not (slots.taking or (slots.free and self._begin(slots))):
                return
            if row := slots.advance():
                self._report(row)
            now = time.perf_counter()
            # The next turn is expected to take as long as this one.
            if (now - began) + (now - before) > self._time_for_prompts(slots):
                return
            before = now

    def _time_for_prompts(self, slots: ChunkedSlots) -> float:
        """Return the seconds that prefill may take between two steps."""
        free = (slots.free - bool(slots.taking)) / self._batch
        return self._seconds * min(2.0, 1.0 + EAGERNESS * free)

    def _begin(self, slots: ChunkedSlots) -> bool:
        """Begin the next text in turn; return False if none waits."""
        with self._changed:
            if not self._waiting:
                return False
            ticket, rows = self._waiting.popitem(last=False)
            row = rows.popleft()
            if rows:
                self._waiting[ticket] = rows  # the others' turns come first
            self._running[id(row)] = ticket, row
        slots.begin(row)
        return True

    def _step(self, slots: ChunkedSlots) -> None:
        """Generate a token for each running text."""
        began = time.perf_counter()
        moved = slots.step()
        seconds = time.perf_counter() - began
        # A delayed step says little about the next one.
        self._seconds = min(seconds, 1.1 * self._seconds) if self._seconds else seconds
        self._steps += 1
        for row in moved:
            self._report(row)

    def _report(self, row: Row) -> None:
        """Report the progress of a text to its request."""
        with self._changed:
            ticket, _ = self._running[id(row)]
            if row.is_over:
                del self._running[id(row)]
        self._generated += bool(row.generated and not row.failure)
        if not ticket.is_cancelled:
            ticket.report(row)

    def _fail(self, slots: ChunkedSlots, error: Exception) -> None:
        """Fail all running texts with an error."""
        with self._changed:
            given_up = list(self._running.values())
            self._running.clear()
        for ticket, row in given_up:
            ticket.fail(row, error)
        slots.clear()
