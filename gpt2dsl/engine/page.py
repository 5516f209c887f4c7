"""The HTML page of a report: one self-contained file without scripts, in light and dark."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from string import Template
from typing import TypeVar

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --ink: #222; --dim: #666; --paper: #fff; --box: #f4f6f8;
  --rule: #d8dde3; --line: #1f5f99; --pale: #9bb8d3; --other: #c0392b;
  --third: #2e8b57; --fourth: #8e44ad; --fifth: #b9770e; --sixth: #0e8c96; --said: #e2f1e2 }
@media (prefers-color-scheme: dark) { :root { --ink: #dde1e6; --dim: #9aa3ad; --paper: #14171b;
  --box: #1e2329; --rule: #39414a; --line: #6db1ee; --pale: #3d5f80; --other: #f08576;
  --third: #6fcf97; --fourth: #c79be0; --fifth: #e0b25a; --sixth: #5fcbd3;
  --said: #203a26 } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 56rem;
  padding: 0 1rem; color: var(--ink); background: var(--paper); overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
small, .dim { color: var(--dim) }
pre { background: var(--box); padding: .8rem; overflow-x: auto; font-size: .82rem;
  line-height: 1.4; border-radius: 6px }
pre.commands { white-space: pre-wrap }
svg { display: block; width: 100%; height: auto; max-width: 42rem }
.figures { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  margin: 1rem 0 }
.figures div { background: var(--box); border-radius: 6px; padding: .6rem .8rem }
.figures b { display: block; font-size: 1.25rem; font-weight: 600 }
.pair { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)) }
.pair h2 { margin-top: 1rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse }
td, th { padding: .15rem 1rem .15rem 0; text-align: left; vertical-align: top }
.wide td, .wide th { overflow-wrap: normal; white-space: nowrap }
.wide td:first-child { padding-left: 1rem }
.identity td { font: .82rem/1.4 ui-monospace, monospace }
.switch > input { position: absolute; opacity: 0 }
.switch > label { display: inline-block; padding: .1rem .7rem; border: 1px solid var(--rule);
  border-radius: 99px; margin: 0 .3rem .4rem 0; cursor: pointer; font-size: .9rem }
.switch > input:checked + label { background: var(--line); color: var(--paper);
  border-color: var(--line) }
.switch > input:focus-visible + label { outline: 2px solid var(--other) }
.switch > div { display: none }
$rules
.passage { font: 15px/1.7 ui-monospace, monospace; white-space: pre-wrap;
  border: 1px solid var(--rule); border-radius: 6px; padding: .6rem; margin: .3rem 0 1rem }
.said { background: var(--said) }
@page { size: A4; margin: 15mm }
@media print {
  :root { --ink: #000; --dim: #444; --paper: #fff; --box: #f4f6f8; --rule: #bbb; --line: #1f5f99;
    --pale: #9bb8d3; --other: #c0392b; --third: #2e8b57; --fourth: #8e44ad;
    --fifth: #b9770e; --sixth: #0e8c96; --said: #e2f1e2 }
  body { margin: 0; max-width: none; font-size: 11pt }
  .wide td, .wide th { white-space: normal; overflow-wrap: anywhere; padding-right: .4rem }
  pre { white-space: pre-wrap } .switch > label { display: none }
  svg, .figures div, .passage { break-inside: avoid } h2 { break-after: avoid }
}
</style></head><body>
<h1>$title</h1>
$body
</body></html>
""")

_T = TypeVar("_T")

_MOST = 4
"""Maximum number of pictures in a switch."""

_RULES = "".join(
    f".switch > input:nth-of-type({n}):checked ~ div:nth-of-type({n}) {{ display: block }}\n"
    for n in range(1, _MOST + 1)
)


def page(title: str, body: str) -> str:
    """Return the complete document.

    Args:
        title: plain text.
        body: HTML.
    """
    return _PAGE.substitute(title=html.escape(title), body=body, rules=_RULES)


def section(heading: str, body: str) -> str:
    """Return a section with its heading."""
    return f"<section><h2>{html.escape(heading)}</h2>\n{body}</section>"


def figures(values: Mapping[str, str]) -> str:
    """Return tiles, each with a value above its name."""
    tiles = (
        f"<div><b>{html.escape(value)}</b><small>{html.escape(name)}</small></div>"
        for name, value in values.items()
    )
    return f'<div class="figures">{"".join(tiles)}</div>'


def switch(name: str, pictures: Mapping[str, str]) -> str:
    """Return pictures with radio buttons that select the visible one, without a script.

    Args:
        name: name of the radio group, unique on the page.
        pictures: label of the button → HTML.
    """
    buttons = "".join(
        f'<input type="radio" name="{name}" id="{name}-{n}"{"" if n else " checked"}>'
        f'<label for="{name}-{n}">{html.escape(words)}</label>'
        for n, words in enumerate(pictures)
    )
    shown = "".join(f"<div>{picture}</div>" for picture in pictures.values())
    return f'<div class="switch">{buttons}{shown}</div>'


def pre(text: str, kind: str = "") -> str:
    """Return text with its line breaks preserved."""
    return (
        f'<pre class="{kind}">{html.escape(text)}</pre>'
        if kind
        else f"<pre>{html.escape(text)}</pre>"
    )


def ends(rows: Sequence[_T]) -> Sequence[_T]:
    """Return the rows of a table, shortened to the first and last ones if there are many."""
    return [*rows[:3], *rows[-5:]] if len(rows) > 8 else rows
