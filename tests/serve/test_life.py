"""How a server begins and ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner

from gpt2dsl.cli.serve import command
from gpt2dsl.errors import Gpt2DslError, InputError
from gpt2dsl.parts.task import Serve
from gpt2dsl.serve.settings import ServerSettings, listen
from tests.serve.conftest import Server

LONG_TEXT: Any = {"max_tokens": 2000, "temperature": 0, "extra_body": {"min_tokens": 2000}}


def get(server: Server, path: str) -> tuple[int, Any]:
    root = server.url.removesuffix("/v1")
    try:
        with urllib.request.urlopen(f"{root}{path}") as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def client(server: Server, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key=key, max_retries=0)


def deaf(server: Server) -> socket.socket:
    """A client that asks for a long stream, with the smallest of buffers, and reads nothing."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    reader.connect(("127.0.0.1", server.port))
    body = json.dumps({"max_tokens": 2000, "min_tokens": 2000, "stream": True, "logprobs": 20})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    reader.sendall(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
    return reader


def test_while_weights_load_the_port_says_so_and_a_second_signal_ends_at_once(
    weights: Path,
) -> None:
    own = Server(weights, "--grace", "600", until="listening on ")
    assert get(own, "/health/live")[0] == 200
    status, document = get(own, "/health/ready")
    assert (status, document["status"]) == (503, "loading")
    with pytest.raises(openai.InternalServerError, match="the model is loading") as caught:
        client(own).completions.create(model="tiny", prompt="a")
    assert caught.value.status_code == 503
    assert int(caught.value.response.headers["Retry-After"]) > 0
    while get(own, "/health/ready")[0] != 200:
        time.sleep(0.1)
    with deaf(own):
        while not own.health()["running"]:
            time.sleep(0.01)
        own.process.send_signal(signal.SIGINT)
        while not is_refused(own):
            time.sleep(0.01)
        own.process.send_signal(signal.SIGINT)
        # MindSpore makes a SIGTERM of a Ctrl-C that comes while it computes.
        assert own.process.wait(30) in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    own.stop()


def is_refused(server: Server) -> bool:
    """Whether nobody listens on the server's port any more."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", server.port)) != 0


def test_readers_that_read_nothing_and_long_texts_do_not_outlive_the_grace(weights: Path) -> None:
    own = Server(weights, "--grace", "1")
    heard: list[str] = []

    def listen() -> None:
        try:
            stream = client(own).completions.create(
                model="tiny", prompt="the", stream=True, **LONG_TEXT
            )
            heard.extend(event.choices[0].text for event in stream)
        except openai.APIError as error:
            heard.append(f"told: {error.message}")

    def ask() -> None:
        try:
            client(own).completions.create(model="tiny", prompt="the", **LONG_TEXT)
        except openai.APIStatusError as error:
            heard.append(f"told: {error.status_code}")

    threads = [threading.Thread(target=work) for work in (listen, ask)]
    with deaf(own):
        for thread in threads:
            thread.start()
        while own.health()["running"] < 3:
            time.sleep(0.01)
        started = time.monotonic()
        assert own.stop() == 0
        assert time.monotonic() - started < 30
        for thread in threads:
            thread.join()
    assert "told: the server is going down" in heard
    assert "told: 503" in heard
    assert "stopped\n" in "".join(own.lines)


def test_the_check_answers_one_request_with_the_key_of_the_environment(weights: Path) -> None:
    key = {"GPT2DSL_API_KEY": "sesame"}
    own = Server(weights, "--host", "0.0.0.0", "--check", env=key, until="checked: ")  # noqa: S104
    assert "checked: a request was answered with 4 tokens\n" in own.lines
    _, rest = own.process.communicate()
    assert own.process.returncode == 0
    assert "sesame" not in "".join([*own.lines, rest])
    assert "warning" not in "".join(own.lines)


def refused(*options: str) -> str:
    """What the command says of settings that can't be, in this process."""
    done = CliRunner().invoke(command, options)
    assert done.exit_code != 0
    assert not isinstance(done.exception, AssertionError)
    is_told = isinstance(done.exception, Gpt2DslError)
    return f"{done.exception}\n" if is_told else done.output


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0"])  # noqa: S104
def test_others_than_this_machine_need_a_key(host: str) -> None:
    cure = "set GPT2DSL_API_KEY (--api-key), or say --insecure"
    said = refused("gpt2", "--host", host, "--port", "0")
    assert said == f"--host: anyone who reaches {host} could ask: {cure} [G2-202]\n"


def test_an_open_server_is_warned_of(capfd: pytest.CaptureFixture[str]) -> None:
    with listen(ServerSettings(task=Serve(host="0.0.0.0", port=0), is_open=True)):  # noqa: S104
        said = capfd.readouterr().err
    assert said == "warning: anyone who reaches 0.0.0.0 can use this server: it needs no key\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", ""), "--host is empty: 0.0.0.0 and :: are every address"),
        (("--api-key", ""), "--api-key is empty"),
        (("--template", "none.jinja"), "none.jinja: there is no such file [G2-301]"),
        (
            ("--adapter", "a=/none/there"),
            "--adapter a=/none/there: there is no such file or folder",
        ),
        (("--host", "no.such.host.invalid"), "no.such.host.invalid:8000: can't be listened on"),
    ],
)
def test_settings_that_can_not_be_are_refused_before_anything_is_loaded(
    options: tuple[str, ...], words: str
) -> None:
    assert words in refused("gpt2", *options)


@pytest.mark.usefixtures("elsewhere")
def test_weights_that_are_not_there_are_refused_before_the_port_is_opened() -> None:
    words = "runs/shrt: there is no such run; those in runs: none [G2-301]\n"
    assert refused("runs/shrt", "--port", "0") == words
    assert "/no/weights: there is no such file or folder" in refused("/no/weights", "--port", "0")


@pytest.mark.parametrize("source", ["a\n{{ messages", "a\n{% if x %}", "a\n{% nothing %}"])
def test_a_file_that_is_no_template_is_refused_before_anything_is_loaded(
    source: str, tmp_path: Path
) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text(source)
    words = f"{file}: line 2: it is no template: "
    assert words in refused("gpt2", "--template", str(file), "--port", "0")
    with pytest.raises(InputError, match=re.escape(words)):
        ServerSettings(task=Serve(template=str(file)))


def test_a_signal_while_mindspore_is_imported_ends_the_server_in_one_line(weights: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-m", "gpt2dsl", "serve", str(weights), "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
        )
        maps = Path(f"/proc/{process.pid}/maps")
        while "mindspore" not in maps.read_text():
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, "stopped\n")


@pytest.mark.parametrize("until", ["listening on ", "loading ", "compiling for "])
def test_a_signal_while_the_model_is_loaded_and_compiled_ends_the_server_and_leaves_nothing(
    weights: Path, tmp_path: Path, until: str
) -> None:
    own = Server(weights, "--warmup", until=until, env={"TMPDIR": str(tmp_path)})
    assert own.stop() == 0
    assert own.lines[-1].splitlines()[-1] == "stopped"
    assert not re.search("Error|WARNING|Traceback", "".join(own.lines))
    assert list(tmp_path.glob("gpt2dsl-*")) == []
