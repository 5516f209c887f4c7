"""Articles of WikiText, split at headings and detokenised.

The cleaning is that of MindFormers 0.8.0 (wikitext2_data_process.py) without its bugs: the last
passage is kept, articles are separate documents, and text after a tab is kept.
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
    """Yield the articles of a file: cleaned lines, passages between headings joined by newlines."""
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
    """Return a line without the spaces that WikiText puts around tokens."""
    for old, new in _PLAIN:
        line = line.replace(old, new)
    for pattern, new in _PAIRS:
        line = pattern.sub(new, line)
    for old, new in _LAST:
        line = line.replace(old, new)
    return line
