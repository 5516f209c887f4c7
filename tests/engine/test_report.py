from __future__ import annotations

import attrs

from gpt2dsl.engine import report
from gpt2dsl.engine.showcase import Showcase

SHOWN = Showcase(tokens=("a",), losses=(1.0,), prompts=("<the>", "old"), continuations=("b", "c"))
NOTHING = attrs.evolve(SHOWN, prompts=(), continuations=())


def test_samples_are_shown_before_and_after_prompt_by_prompt() -> None:
    after = attrs.evolve(SHOWN, continuations=("d", "e"))
    page = report._samples(SHOWN, after)
    parts = [page.index(f'<span class="said">{text}</span>') for text in ("b", "d", "c", "e")]
    assert parts == sorted(parts)
    assert page.count("&lt;the&gt;") == 2


def test_a_run_that_went_on_where_nothing_is_generated_shows_what_there_is() -> None:
    assert report._samples(SHOWN, NOTHING).count("Before:") == 2
    assert report._samples(NOTHING, SHOWN).count("After:") == 2
    assert "After:" not in report._samples(SHOWN, NOTHING)
