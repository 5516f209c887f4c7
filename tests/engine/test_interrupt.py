from __future__ import annotations

import os
import signal

import pytest

from gpt2dsl.engine.interrupt import StopRequest, held


def test_ctrl_c_waits_for_the_end_of_what_can_not_be_interrupted() -> None:
    reached: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _interrupted_while_held(reached)
    assert reached
    assert signal.getsignal(signal.SIGINT) is before


def _interrupted_while_held(reached: list[bool]) -> None:
    with held():
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(True)


def test_the_first_signal_is_a_wish_and_the_second_ends_at_once() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wanted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
