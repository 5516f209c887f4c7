"""Fields for origins and host names, in the form in which browsers send them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs

from gpt2dsl.parts.rules import RULE, texts

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_HOST = re.compile(r"([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+")
_PORTS = {"http": ":80", "https": ":443"}


def origins(doc: str) -> Any:
    """Return a field for origins; ``*`` is any, ``null`` that of a file."""
    words = "origins as browsers send them, as https://example.org, http://localhost:3000, or *"
    return _each(doc, words, _is_origin, _nearest_origin)


def host_names(doc: str) -> Any:
    """Return a field for names of hosts; ``*`` is any."""
    words = "names of hosts without scheme, port and path, as example.org, or *"
    return _each(doc, words, _is_host, _nearest_host)


def _each(doc: str, words: str, fits: Callable[[str], bool], nearest: Callable[[str], str]) -> Any:
    """Return a field for texts which all fit, and whose fault says what to write instead."""
    field = texts(doc, default=())
    rule = field.metadata[RULE]

    def cure(values: Sequence[str]) -> str:
        wrong = next((value for value in values if not fits(value)), "")
        cured = nearest(wrong)
        return f"; write {cured} for {wrong}" if fits(cured) else ""

    field.metadata[RULE] = attrs.evolve(
        rule,
        expected=f"{rule.expected}: {words}",
        fits=lambda values: bool(values) and all(map(fits, values)),
        cure=cure,
    )
    return field


def _is_origin(text: str) -> bool:
    port = _PORTS.get(text.partition("://")[0], "")
    is_default = bool(port) and text.endswith(port)  # browsers leave it out
    return text in ("*", "null") or bool(_ORIGIN.fullmatch(text) and not is_default)


def _nearest_origin(text: str) -> str:
    """Return the origin of a URL or host name; "" if it has none."""
    try:
        parts = urlsplit(text.strip() if "://" in text else f"https://{text.strip()}")
    except ValueError:
        return ""
    place = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme}://{place.removesuffix(_PORTS.get(parts.scheme, ''))}"


def _is_host(text: str) -> bool:
    return text == "*" or bool(_HOST.fullmatch(text)) or is_ip_address(text)


def is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _nearest_host(text: str) -> str:
    """Return the host name of a URL; "" if it has none."""
    try:
        name = urlsplit(text.strip() if "://" in text else f"//{text.strip()}").hostname or ""
    except ValueError:
        return ""
    return name.removesuffix(".")
