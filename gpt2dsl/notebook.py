"""How objects and progress look in a notebook."""

from __future__ import annotations

import html
import os
import re
import sys
import time
from typing import Any, ClassVar


class ShownAsText:
    """An object that notebooks show as its text, ``str(object)``."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return preformatted(str(self))


class ShownAsCode:
    """An object that notebooks show as ``repr(object)``, mostly the Python that makes it."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return preformatted(repr(self))


def preformatted(text: str) -> str:
    """Return text as HTML that keeps its columns."""
    return f'<pre style="white-space: pre; overflow-x: auto">{html.escape(text)}</pre>'


class Cell:
    """A place in a notebook's output that is written again and again.

    A place can't be taken away: one that was cleared is taken by the next of the same cell.

    Args:
        display: IPython's function of that name.
        count: of the cell that is carried out.
    """

    _free: ClassVar[tuple[object, list[Any]]] = None, []
    """The places that were cleared, and of which cell."""

    PAUSE = 0.1
    """Seconds between two pictures of a bar: each is a message to the browser."""

    def __init__(self, display: Any, count: object) -> None:
        self._display, self._count = display, count
        self._handle: Any = None
        self._shown = -self.PAUSE

    def bar(self, what: str, share: float, words: str) -> None:
        """Show how much of something is done, and words beside it."""
        now = time.monotonic()
        if share < 1 and now - self._shown < self.PAUSE:
            return
        self._shown = now
        bar = f'<progress max="1" value="{share:.4f}" style="width: 12em"></progress>'
        self._write(f"{html.escape(what)} {bar} {html.escape(words)}")

    def say(self, words: str) -> None:
        """Show words."""
        self._write(html.escape(words))

    def clear(self) -> None:
        """Show nothing any more."""
        if self._handle:
            self._write("")
            if self._free[0] != self._count:
                Cell._free = self._count, []
            self._free[1].append(self._handle)
            self._handle = None

    def _write(self, markup: str) -> None:
        bundle = {"text/html": markup and f"<div>{markup}</div>", "text/plain": ""}
        count, free = self._free
        if not self._handle and free and count == self._count:
            self._handle = free.pop()
        if self._handle:
            self._handle.update(bundle, raw=True)
        else:
            self._handle = self._display(bundle, raw=True, display_id=True)


def cell() -> Cell | None:
    """Return a place in the output of a notebook's cell; None where no notebook is."""
    shell = _shell()
    # only shells whose front end speaks messages have a kernel: not the one of a terminal
    if getattr(shell, "kernel", None) is None:
        return None
    return Cell(sys.modules["IPython.display"].display, getattr(shell, "execution_count", None))


def place(file: str, line: int) -> str:
    """Return where a line of a cell is, ``cell [5], line 3``; "" where the file is of no cell."""
    named = getattr(getattr(_shell(), "compile", None), "format_code_name", lambda _: None)(file)
    number = re.search(r"\[\d+\]", named[1]) if named else None
    return f"cell {number[0]}, line {line}" if number else ""


def file_of(origin: str) -> str:
    """Return the file of a place, ``mine.py`` of ``mine.py:8``; of a cell that of the notebook."""
    if _CELL.match(origin):
        return os.environ.get("JPY_SESSION_NAME", "notebook")
    return origin.rpartition(":")[0]


_CELL = re.compile(r"cell \[\d+\], line \d+")


def _shell() -> Any:
    """Return IPython's shell, None where nothing runs in one."""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
