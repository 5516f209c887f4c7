"""The page in Chromium, on a phone and on a desk: completes, chats, and says what is wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.layouts import write_weights

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".browser" / "bin" / "python"
INSIDE = Path(__file__).with_name("inside.py")
KEY = "a key of the tests"

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"

pytestmark = [
    pytest.mark.judges,
    pytest.mark.skipif(not PYTHON.exists(), reason="make judges makes the environment"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page")
    weights = write_weights(folder / "weights")
    (folder / "chat.jinja").write_text(TEMPLATE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gpt2dsl", "serve", str(weights), "--name", "tiny"]
    command += ["--port", str(port), "--template", str(folder / "chat.jinja")]
    server = subprocess.Popen(command, env={**os.environ, "GPT2DSL_API_KEY": KEY})
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(240):
            assert server.poll() is None
            try:
                if httpx.get(f"{address}health").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="module")
def visits(url: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the page showed at 390 wide in the light and in the dark, and at 1280."""
    pictures = os.environ.get("GPT2DSL_PICTURES") or str(tmp_path_factory.mktemp("pictures"))
    done = subprocess.run(
        [PYTHON, INSIDE, url, KEY, pictures], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) == 4
    return found


def asked(url: str, path: str, **body: Any) -> dict[str, Any]:
    """The choice of an answer that another client gets."""
    response = httpx.post(
        f"{url}v1/{path}",
        headers={"Authorization": f"Bearer {KEY}"},
        json={"temperature": 0, **body},
        timeout=60,
    )
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


def test_it_completes_as_any_client_does(url: str, visits: list[dict[str, Any]]) -> None:
    expected = asked(url, "completions", prompt="the old cat", max_tokens=12)["text"]
    for found in visits:
        assert found["text"] == "the old cat" + expected
        assert found["status"].startswith("12 tokens in ")
        assert found["status"].endswith("; as many as were allowed.")


def test_it_chats_with_what_was_said_before(url: str, visits: list[dict[str, Any]]) -> None:
    messages: list[dict[str, str]] = []
    for text in ("a bird", "over"):
        messages.append({"role": "user", "content": text})
        choice = asked(url, "chat/completions", messages=messages, max_tokens=8)
        messages.append({"role": "assistant", "content": choice["message"]["content"]})
    for found in visits:
        assert found["chat"] == [message["content"] for message in messages]
        assert found["shown"]
        assert found["typed"] == ""


def test_a_token_shows_its_probability_under_the_pointer_and_by_keyboard(
    visits: list[dict[str, Any]],
) -> None:
    for found in visits:
        assert found["token"].count("%") >= 5
        assert found["text"].endswith(found["last"])
        assert found["before"] == -2


def test_what_is_wrong_is_said_in_words(visits: list[dict[str, Any]]) -> None:
    for found in visits:
        assert found["model"] == "tiny"
        assert not found["access"]
        assert found["without a key"] == "This server asks for an API key"
        assert found["another key"] == "The server does not take this key."
        assert found["refused here"].startswith("Temperature: ")
        assert found["refused there"].startswith("stop: 6 ")
        assert found["stopped"] == "Stopped."


def test_it_fits_both_widths_and_both_schemes_and_asks_nobody_else(
    url: str, visits: list[dict[str, Any]]
) -> None:
    assert [found["overflow"] for found in visits] == [0, 0, 0, 0]
    light, dark = ({visits[i]["ground"], visits[i + 2]["ground"]} for i in (0, 1))
    assert len(light) == len(dark) == 1
    assert light != dark
    for found in visits:
        assert all(address.startswith(url) for address in found["asked"])
        # Chromium reports both refusals; anything else would be a fault, or against the policy.
        assert all("status of 40" in message for message in found["messages"])
