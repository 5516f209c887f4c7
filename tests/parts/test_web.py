"""Origins and host names of a server."""

from __future__ import annotations

import pytest

from gpt2dsl import SpecError
from gpt2dsl.parts.task import Serve

ORIGINS = (
    "*", "null", "https://example.org", "http://localhost:3000", "http://[::1]:8080",
    "chrome-extension://abcdef", "https://xn--bcher-kva.example",
)  # fmt: skip
HOSTS = ("*", "example.org", "Example.ORG", "gpu-1", "my_service", "::1", "10.0.0.1")


def test_what_browsers_send_is_accepted() -> None:
    task = Serve(cors=ORIGINS, allowed_hosts=HOSTS)
    assert (task.cors, task.allowed_hosts) == (ORIGINS, HOSTS)


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        ("example.org", "https://example.org"),
        ("localhost:3000", "https://localhost:3000"),
        ("https://example.org/", "https://example.org"),
        ("https://example.org/chat?a=b", "https://example.org"),
        ("HTTPS://Example.org", "https://example.org"),
        ("https://example.org:443", "https://example.org"),
        ("http://example.org:80", "http://example.org"),
        (" https://example.org", "https://example.org"),
        ("https://me@example.org", "https://example.org"),
        ("https://*.example.org", ""),
        ("https://[::1", ""),
        ("", ""),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused_with_what_to_write(
    written: str, cure: str
) -> None:
    with pytest.raises(SpecError) as caught:
        Serve(cors=["https://a.org", written])
    words = f"found {['https://a.org', written]!r}{f'; write {cure} for {written}' if cure else ''}"
    assert f"http://localhost:3000, or *, {words} [G2-202]" in str(caught.value)


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        ("http://foo.org/", "foo.org"),
        ("foo.org:8000", "foo.org"),
        ("foo.org.", "foo.org"),
        ("foo.org/chat", "foo.org"),
        ("*.foo.org", ""),
        ("foo org", ""),
        ("", ""),
    ],
)
def test_a_host_that_is_no_name_is_refused_with_what_to_write(written: str, cure: str) -> None:
    with pytest.raises(SpecError) as caught:
        Serve(allowed_hosts=[written])
    words = f"found {[written]!r}{f'; write {cure} for {written}' if cure else ''}"
    assert f"as example.org, or *, {words} [G2-202]" in str(caught.value)
