"""Threads that share a model get what one thread gets, whatever the others are doing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl.backend.turns import Turns
from gpt2dsl.engine.language_model import LanguageModel

ROOT = Path(__file__).parents[2]
TEXTS = ("the", "the old cat", "a bird sang", "dog")


def kinds(lm: LanguageModel) -> list[Callable[[int], Any]]:
    """Ways to use a model; the number of a call decides its arguments."""
    return [
        lambda k: lm.logits([[1, 2, 3, k % 200]]).tobytes(),
        lambda k: lm.generate([TEXTS[k % 4]], max_new_tokens=4),
        lambda k: lm.generate(["a", TEXTS[k % 4]], max_new_tokens=4, do_sample=True, seed=k),
        lambda k: list(lm.stream(TEXTS[k % 4], max_new_tokens=4)),
        lambda k: lm.generate([TEXTS[k % 4]], max_new_tokens=3, beams=2),
        lambda k: lm.loglikelihood([TEXTS[k % 4], "a"], [" cat", " bird"]),
        lambda k: lm.loglikelihood_rolling(TEXTS[k % 4] * 40),
    ]


def compare(lm: LanguageModel, threads: int, calls: int) -> None:
    """Assert that calls of several threads give what they give one after another."""
    uses = kinds(lm)
    numbers = range(threads * calls)
    expected = [uses[k % len(uses)](k) for k in numbers]
    order = random.Random(0).sample(numbers, len(numbers))
    with ThreadPoolExecutor(threads) as pool:
        answers = dict(zip(order, pool.map(lambda k: uses[k % len(uses)](k), order), strict=True))
    assert [answers[k] for k in numbers] == expected


def test_calls_of_several_threads_give_what_they_give_one_after_another(lm: LanguageModel) -> None:
    compare(lm, threads=4, calls=7)


def test_a_stream_that_is_held_open_holds_nobody_up(lm: LanguageModel) -> None:
    whole = "".join(lm.stream("the", max_new_tokens=6))
    stream = lm.stream("the", max_new_tokens=6)
    begun = next(stream)
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(lm.generate, ["the"], max_new_tokens=6).result(timeout=120)
    assert beside == lm.generate(["the"], max_new_tokens=6)
    assert begun + "".join(stream) == whole


def test_a_turn_goes_to_whoever_has_waited_longest() -> None:
    turns, order = Turns(), []
    asked = [threading.Event() for _ in range(4)]

    def take(number: int) -> None:
        asked[number].set()
        with turns, turns:  # a thread that has the turn may take it again
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    with turns:
        for number, thread in enumerate(threads):
            thread.start()
            asked[number].wait()
            while len(turns._waiting) <= number:
                pass
        assert not order
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3]
    assert turns._owner is None


def test_a_turn_is_given_back_by_what_fails() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="of the caller"), turns:
        raise ValueError("of the caller")
    with turns:
        assert turns._owner == threading.get_ident()


@pytest.mark.soak
@pytest.mark.timeout(6000)
def test_eight_threads_of_fifty_calls_crash_in_none_of_twenty_processes(tmp_path: Path) -> None:
    program = tmp_path / "threads.py"
    program.write_text(
        "import faulthandler\n"
        "from gpt2dsl.data.tokenizer import Tokenizer\n"
        "from gpt2dsl.engine.language_model import LanguageModel, network_of\n"
        "from tests.engine.conftest import text\n"
        "from tests.engine.test_threads import compare\n"
        "from tests.judges import TINY, random_weights\n"
        "faulthandler.enable()\n"
        "tokenizer = Tokenizer.train([text(400)], TINY.vocab)\n"
        "lm = LanguageModel(network_of(TINY, random_weights(TINY), 'cpu'), tokenizer)\n"
        "compare(lm, threads=8, calls=50)\n"
    )
    for _ in range(20):
        done = subprocess.run(
            [sys.executable, str(program)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr[-3000:]
