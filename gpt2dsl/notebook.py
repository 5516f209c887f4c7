"""Display of objects and progress in notebooks."""

from __future__ import annotations

import html
import os
import re
import sys
import time
from typing import Any, ClassVar


class ShownAsText:
    """A mixin for objects that notebooks show as ``str(object)``."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return preformatted(str(self))


class ShownAsCode:
    """A mixin for objects that notebooks show as ``repr(object)``, mostly their Python code."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return preformatted(repr(self))


def preformatted(text: str) -> str:
    """Return text as HTML with its columns preserved."""
    return f'<pre style="white-space: pre; overflow-x: auto">{html.escape(text)}</pre>'


class Cell:
    """An updatable region in a notebook's output, of the cell with this execution count.

    A region can't be removed: once cleared, it is reused by the next one of the same cell.
    """

    _free: ClassVar[tuple[object, list[Any]]] = None, []
    """Execution count of a cell, and its cleared regions."""

    PAUSE = 0.1
    """Minimum seconds between two updates of a bar: each is a message to the browser."""

    def __init__(self, display: Any, count: object) -> None:
        self._display, self._count = display, count
        self._handle: Any = None
        self._shown = -self.PAUSE

    def bar(self, what: str, share: float, words: str) -> None:
        """Show a progress bar with a label and details."""
        now = time.monotonic()
        if share < 1 and now - self._shown < self.PAUSE:
            return
        self._shown = now
        bar = f'<progress max="1" value="{share:.4f}" style="width: 12em"></progress>'
        self._write(f"{html.escape(what)} {bar} {html.escape(words)}")

    def say(self, words: str) -> None:
        self._write(html.escape(words))

    def clear(self) -> None:
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
    """Return a region in the output of the running cell; None outside notebooks."""
    shell = _shell()
    # only shells with a message-based front end have a kernel; a terminal's has none
    if getattr(shell, "kernel", None) is None:
        return None
    return Cell(sys.modules["IPython.display"].display, getattr(shell, "execution_count", None))


def place(file: str, line: int) -> str:
    """Return the location of a cell's line, ``cell [5], line 3``; "" for other files."""
    cell_name = getattr(getattr(_shell(), "compile", None), "format_code_name", lambda _: None)(
        file
    )
    number = re.search(r"\[\d+\]", cell_name[1]) if cell_name else None
    return f"cell {number[0]}, line {line}" if number else ""


def file_of(origin: str) -> str:
    """Return the file of a location, ``mine.py`` for ``mine.py:8``; for a cell, its notebook."""
    if _CELL.match(origin):
        return os.environ.get("JPY_SESSION_NAME", "notebook")
    return origin.rpartition(":")[0]


_CELL = re.compile(r"cell \[\d+\], line \d+")


def _shell() -> Any:
    """Return IPython's shell; None outside IPython."""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
