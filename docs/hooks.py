"""Say of each page of the manual in which language it is, for screen readers and translators."""

from __future__ import annotations

from typing import Any


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Return a page with its language; mkdocs knows one for all."""
    if page.file.src_uri.endswith(".zh.md"):
        return output.replace('<html lang="en"', '<html lang="zh"', 1)
    return output
