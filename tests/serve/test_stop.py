"""What a server that is part of another program does when it is asked to stop."""

from __future__ import annotations

import os
import signal

import pytest

from gpt2dsl.parts.task import Serve
from gpt2dsl.serve import server
from gpt2dsl.serve.settings import ServerSettings, listen
from gpt2dsl.serve.stop import Stop


def test_a_server_that_is_asked_to_stop_before_it_begins_ends_with_a_result(
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings = ServerSettings(task=Serve(port=0))
    listening = listen(settings)
    port = listening.getsockname()[1]
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_wanted
        served = server.serve("none", "none", settings, listening, stop)
    assert served == (f"http://127.0.0.1:{port}", 0)
    assert capfd.readouterr().err == "stopped\n"
