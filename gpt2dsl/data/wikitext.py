"""WikiText as text again: its headings bound the articles, its spaces are undone.

The cleaning is that of MindFormers 0.8.0 (wikitext2_data_process.py), without its faults: the last
passage stays, articles are documents of their own, and what follows a tab stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_TITLE = re.compile(r"= [^=].*[^=] =|= [^=] =")

_PLAIN = (
    ("s '", "s'"), (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."), (" : ", ": "), (" ; ", "; "),
    (" . ", ". "), (" .", "."), (" ! ", "! "), (" ? ", "? "), (" , ", ", "),
)  # fmt: skip
_PAIRS = tuple(
    (re.compile(rf"{left}\s*([^{left}{right}]*?)\s*{right}"), rf"{shown[0]}\1{shown[1]}")
    for left, right, shown in (
        (r"\(", r"\)", "()"), (r"\[", r"\]", "[]"), (r"\{", r"\}", "{}"), ('"', '"', '""'),
        ("'", "'", "''"),
    )
)  # fmt: skip
_LAST = (
    ("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (f" {chr(176)} ", chr(176)),
    (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s"),
)  # fmt: skip


def articles(lines: Iterable[str]) -> Iterator[str]:
    """The articles of a file: cleaned lines, the passages between headings joined by newlines.

    Args:
        lines: of the file.
    """
    passages: list[str] = []
    passage: list[str] = []
    for raw in lines:
        line = raw.strip()
        if not line:
            continue
        heading = line[0] == line[-1] == "="
        if not heading:
            passage.append(cleaned(line))
            continue
        if passage:
            passages.append(" ".join(passage))
            passage = []
        if _TITLE.fullmatch(line) and passages:
            yield "\n".join(passages)
            passages = []
    if passage:
        passages.append(" ".join(passage))
    if passages:
        yield "\n".join(passages)


def cleaned(line: str) -> str:
    """One line without the spaces that WikiText puts around its tokens."""
    for old, new in _PLAIN:
        line = line.replace(old, new)
    for pattern, new in _PAIRS:
        line = pattern.sub(new, line)
    for old, new in _LAST:
        line = line.replace(old, new)
    return line
