"""How objects look in a notebook."""

from __future__ import annotations

import html


class ShownAsText:
    """An object that notebooks show as its text, ``str(object)``."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return preformatted(str(self))


def preformatted(text: str) -> str:
    """Return text as HTML that keeps its columns."""
    return f'<pre style="white-space: pre; overflow-x: auto">{html.escape(text)}</pre>'
