"""The thread that generates: texts of all requests share one batch, the others wait in a queue."""

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
"""Bytes that are kept of prompts where nothing is said."""

TURNS = 2
"""Turns of prompts between two steps at most."""

EAGERNESS = 4
"""How fast the time that prompts may take between two steps grows with the share of places that are
free: from one step's time to two. A running text waits for no more than three steps, its own among
them; where few run, steps are worth less than the texts that join them."""


class BusyError(Exception):
    """The queue is full, or the server is going down."""


@attrs.frozen
class Event:
    """What became of a text.

    Attributes:
        index: of the text in its request.
        piece: text that it grew by.
        is_over: whether it is complete.
        failure: why it never will be; "" where nothing failed.
        is_refusal: whether it failed for what the request asks for.
    """

    index: int
    piece: str = ""
    is_over: bool = False
    failure: str = ""
    is_refusal: bool = False


@attrs.frozen
class Counters:
    """What a worker has done since it began.

    Attributes:
        generated_tokens: of all texts.
        prefilled_tokens: of prompts, computed.
        cached_tokens: of prompts, known from others that began alike.
        cache_bytes: that are kept of prompts now.
        steps: in which each running text got a token.
    """

    generated_tokens: int = 0
    prefilled_tokens: int = 0
    cached_tokens: int = 0
    cache_bytes: int = 0
    steps: int = 0


class Ticket:
    """A request on its way through the worker.

    Args:
        rows: the texts that it asks for.
        stop: texts before which they are cut.
        tell: gets what becomes of them; called in the worker's thread.
    """

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
        """Nobody wants it any more: its places are freed before the next step."""
        self.is_cancelled = True

    def report(self, row: Row) -> None:
        """Tell by what a text grew, or why it won't."""
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
        """Tell why a text will not be complete."""
        is_refusal = isinstance(error, NoChoiceError)
        words = str(error) if is_refusal else f"{type(error).__name__}: {error}"
        self._tell(Event(self._places[id(row)], failure=words, is_refusal=is_refusal))

    def _tell(self, event: Event) -> None:
        try:
            self.tell(event)
        except Exception:  # noqa: BLE001  # whoever listened is gone; others still do
            self.cancel()


class Worker(threading.Thread):
    """Generates until it is stopped.

    Prompts come in a chunk at a time between the steps of running texts, so that none of these
    waits for a whole prompt; requests take turns, whatever number of texts each asks for.

    Args:
        load: gives the model; called in this thread.
        batch: texts at once.
        waiting: texts that may wait.
        cache: bytes that are kept of prompts, for those that begin alike.
        warm_up: whether the graphs of all lengths are compiled first; else as texts become longer,
            and all texts wait for that.
        tell: hears what is compiled.

    Attributes:
        model: comes once it is loaded and compiled; or the error.
        capacity: texts that run and wait at most.
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
        self._seconds = 0.0  # of a step, lately
        self._generated = self._steps = 0
        self._slots: ChunkedSlots | None = None

    @property
    def counts(self) -> tuple[int, int]:
        """Texts that run, and texts that wait."""
        with self._changed:
            return len(self._running), sum(map(len, self._waiting.values()))

    @property
    def counters(self) -> Counters:
        """What was done so far."""
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
            BusyError: there is no room for it, or the worker stops.
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
        """Finish what runs and waits, then end."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()

    def run(self) -> None:
        """The thread: load, compile, generate."""
        try:
            model = self._load()
            slots = self._slots = model.chunked_slots(self._batch, self._cache)
            for purpose in slots.warm_up(all_lengths=self._warms_up):
                self._say(f"compiling for {purpose}")
        except BaseException as error:  # noqa: BLE001  # it is raised where the model is awaited
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
            except Exception as error:  # noqa: BLE001  # those who wait are told
                self._fail(slots, error)

    def _has_work(self) -> bool:
        """Wait for work; False once there will be none."""
        with self._changed:
            while not (self._waiting or self._running or self._is_stopping):
                self._changed.wait()
            return bool(self._waiting or self._running)

    def _drop_cancelled(self, slots: ChunkedSlots) -> None:
        """Free the places of texts that nobody wants."""
        with self._changed:
            for ticket in [one for one in self._waiting if one.is_cancelled]:
                del self._waiting[ticket]
            dropped = [row for ticket, row in self._running.values() if ticket.is_cancelled]
            for row in dropped:
                del self._running[id(row)]
        for row in dropped:
            slots.drop(row)

    def _take_prompts(self, slots: ChunkedSlots) -> None:
        """Give prompts a turn, and more while there is time and places last."""
        began = before = time.perf_counter()
        for _ in range(TURNS):
            if not (slots.taking or (slots.free and self._begin(slots))):
                return
            if row := slots.advance():
                self._report(row)
            now = time.perf_counter()
            if (now - began) + (now - before) > self._time_for_prompts(slots):  # with another turn
                return
            before = now

    def _time_for_prompts(self, slots: ChunkedSlots) -> float:
        """Return the seconds that prompts may take between two steps."""
        free = (slots.free - bool(slots.taking)) / self._batch
        return self._seconds * min(2.0, 1.0 + EAGERNESS * free)

    def _begin(self, slots: ChunkedSlots) -> bool:
        """Begin with the next text in turn; False where none waits."""
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
        """A token for each running text."""
        began = time.perf_counter()
        moved = slots.step()
        seconds = time.perf_counter() - began
        # One that was held up says little of the next.
        self._seconds = min(seconds, 1.1 * self._seconds) if self._seconds else seconds
        self._steps += 1
        for row in moved:
            self._report(row)

    def _report(self, row: Row) -> None:
        """Tell what became of a text."""
        with self._changed:
            ticket, _ = self._running[id(row)]
            if row.is_over:
                del self._running[id(row)]
        self._generated += bool(row.generated and not row.failure)
        if not ticket.is_cancelled:
            ticket.report(row)

    def _fail(self, slots: ChunkedSlots, error: Exception) -> None:
        """Give up all that runs, and say why."""
        with self._changed:
            given_up = list(self._running.values())
            self._running.clear()
        for ticket, row in given_up:
            ticket.fail(row, error)
        slots.clear()
