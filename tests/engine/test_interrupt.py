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


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU])
def test_an_echo_of_a_batch_systems_signal_ends_nothing_at_once(number: signal.Signals) -> None:
    with StopRequest() as stop:
        for _ in range(3):
            os.kill(os.getpid(), number)
        assert stop.count == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_hang_up_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.wanted
    finally:
        signal.signal(signal.SIGHUP, before)
