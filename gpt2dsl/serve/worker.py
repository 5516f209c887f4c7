"""The thread that generates: texts of all requests share one batch, the others wait in a queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

import attrs

from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.generation.slots import Slots
from gpt2dsl.engine.generation.text import Pieces
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.parts import Generation


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
    """

    index: int
    piece: str = ""
    is_over: bool = False
    failure: str = ""


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
        self._pieces = [Pieces(rows[0].request.tokenizer, stop) for _ in rows]
        self._told = [0] * len(rows)

    def cancel(self) -> None:
        """Nobody wants it any more: its places are freed before the next step."""
        self.is_cancelled = True

    def report(self, row: Row) -> None:
        """Tell by what a text grew."""
        index = self.rows.index(row)
        piece = self._pieces[index].add(row.said[self._told[index] :])
        self._told[index] = len(row.said)
        if row.ended:
            piece += self._pieces[index].rest()
        self.tell(Event(index, piece, is_over=bool(row.ended)))


class Worker(threading.Thread):
    """Generates until it is stopped.

    Args:
        load: gives the model; called in this thread, for MindSpore's settings are a thread's own.
        batch: texts at once.
        waiting: texts that may wait.

    Attributes:
        model: comes once it is loaded and compiled; or the error.
        capacity: texts that run and wait at most.
    """

    def __init__(self, load: Callable[[], LanguageModel], *, batch: int, waiting: int) -> None:
        super().__init__(name="generation", daemon=True)
        self.model: Future[LanguageModel] = Future()
        self._load, self._batch, self.capacity = load, batch, batch + waiting
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Ticket, Row]] = deque()
        self._running: dict[int, tuple[Ticket, Row]] = {}
        self._is_stopping = False

    @property
    def counts(self) -> tuple[int, int]:
        """Texts that run, and texts that wait."""
        return len(self._running), len(self._waiting)

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
            self._waiting.extend((ticket, row) for row in ticket.rows)
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
            slots = model.slots(self._batch)
            _warm_up(model, slots)
        except BaseException as error:  # noqa: BLE001  # it is raised where the model is awaited
            self.model.set_exception(error)
            return
        self.model.set_result(model)
        while self._admit(slots):
            self._step(slots)

    def _admit(self, slots: Slots) -> bool:
        """Wait for work and give it places; False once there will be none."""
        with self._changed:
            while not (self._waiting or self._running or self._is_stopping):
                self._changed.wait()
            if not (self._waiting or self._running):
                return False
            new: list[tuple[Ticket, Row]] = []
            while self._waiting and len(self._running) + len(new) < self._batch:
                new.append(self._waiting.popleft())
        for ticket, row in new:
            self._running[id(row)] = ticket, row
            if not ticket.is_cancelled:
                self._guarded(slots, partial(self._take_in, slots, row))
        return True

    def _take_in(self, slots: Slots, row: Row) -> None:
        slots.add([row])
        self._report(row)

    def _step(self, slots: Slots) -> None:
        """A token for each text that somebody wants."""
        for key, (ticket, row) in list(self._running.items()):
            if ticket.is_cancelled:
                del self._running[key]
                if row in slots.busy:
                    slots.drop(row)
        if slots.busy:
            self._guarded(slots, partial(self._advance, slots))

    def _advance(self, slots: Slots) -> None:
        for row in slots.step():
            self._report(row)

    def _guarded(self, slots: Slots, work: Callable[[], object]) -> None:
        """Work whose failure must not end the server."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  # those who wait are told
            self._fail(slots, error)

    def _report(self, row: Row) -> None:
        ticket, _ = self._running[id(row)]
        if row.ended:
            del self._running[id(row)]
        ticket.report(row)

    def _fail(self, slots: Slots, error: Exception) -> None:
        """Give up all that runs, and say why."""
        for ticket, row in self._running.values():
            ticket.tell(Event(ticket.rows.index(row), failure=f"{type(error).__name__}: {error}"))
        self._running.clear()
        for row in slots.busy:
            slots.drop(row)


def _warm_up(model: LanguageModel, slots: Slots) -> None:
    """Compile what the first request needs, before anyone waits for it."""
    two = Generation(max_new_tokens=2, min_new_tokens=2, beams=1, num_return_sequences=1)
    slots.add([model.row("", two)])
    slots.step()
