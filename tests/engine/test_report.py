from __future__ import annotations

import math
import re
import time

import attrs
import pytest

from gpt2dsl.engine import page, pictures, report
from gpt2dsl.engine.clock import Clock
from gpt2dsl.engine.job import Result
from gpt2dsl.engine.overlay import overlay
from gpt2dsl.engine.pictures import Curve
from gpt2dsl.engine.rundir import Attempt
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "(nothing: it ends the text at once)"),
        ("\n \n", "(only blanks, 3 of them)"),
        ("a\n", "a\n"),
        ("<b>", "&lt;b&gt;"),
    ],
)
def test_a_sample_that_would_not_be_seen_is_told_in_words(text: str, words: str) -> None:
    after = attrs.evolve(SHOWN, continuations=(text, "e"))
    assert words in report._samples(SHOWN, after)


@pytest.mark.parametrize("count", [1, 2, 12, 60, 400])
def test_a_smoothed_curve_does_not_lag_behind_its_values(count: int) -> None:
    values = [9 - 6 * step / count for step in range(count)]
    smooth = pictures.smooth(values)
    assert len(smooth) == count
    assert sum(smooth) == pytest.approx(sum(values), rel=0.02)
    assert smooth[count // 2] == pytest.approx(values[count // 2], rel=0.06)
    assert pictures.smooth([2.5] * count) == pytest.approx([2.5] * count)


def test_pictures_have_the_colours_of_the_page_and_names_of_their_own() -> None:
    line = Curve("a <b>", [1, 2], [1.0, 2.0])
    both = [pictures.curves([line], "step", name) for name in ("loss", "speed")]
    for picture in both:
        assert "var(--line)" in picture
        assert "var(--ink)" in picture
        assert "#01010" not in picture
        assert "a <b>" not in picture
    ids = [set(re.findall(r' id="(p[0-9a-f]{6,})"', picture)) for picture in both]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_page_runs_no_script_and_loads_nothing() -> None:
    body = page.switch("x", {"one": "1", "two": "2"}) + page.pre("<i>")
    text = page.page("<title>", body)
    assert not re.search(r"<script|https?://|src=|@import|url\((?!#)|\$", text)
    assert text.count('type="radio"') == 2
    assert "&lt;title&gt;" in text
    assert "&lt;i&gt;" in text


def test_time_within_is_counted_once() -> None:
    clock = Clock()
    with clock.of("computing"):
        time.sleep(0.02)
        with clock.of("data"):
            time.sleep(0.1)
    assert clock.seconds["computing"] < clock.seconds["data"]
    assert sum(clock.seconds.values()) <= clock.total


def test_runs_lie_over_each_other() -> None:
    metrics = [{"step": step, "loss": 3.0 - step / 10} for step in (1, 2, 3)]
    evaluated = [*metrics, {"step": 3, "eval_loss": 2.5}]
    rows = [("recipe", "A", "B"), ("  lr", "1", "2")]
    text = overlay([("runs/a", metrics), ("runs/<b>", evaluated)], rows)
    assert text.count("<svg") == 2
    assert "<td>lr</td><td>1</td><td>2</td>" in text
    assert "<b>" not in text.replace("<b></b>", "")
    assert "<h1>a and &lt;b&gt;</h1>" in text
    assert "runs/a" not in text
    assert overlay([("a", metrics)] * 2, [("recipe: equal", "", "")]).count("<svg") == 1


def test_many_runs_have_looks_of_their_own() -> None:
    metrics = [{"step": step, "loss": 3.0 - step / 10} for step in (1, 2, 3)]
    text = overlay(
        [(f"sweep/{n}/run", metrics) for n in range(26)], [("recipe: equal", *[""] * 26)]
    )
    assert "<h1>26 runs</h1>" in text
    assert "Z  25/run" in text
    looks = re.findall(r'<path d="[^"]+" clip-path="[^"]+" style="fill: none; ([^"]+)"', text)
    lines = [info for info in looks if "stroke-width: 1.6" in info]
    assert len(set(lines)) == len(lines) == 26


WHEN = "2026-11-28T04:05:06+00:00"


def attempts(*noted: tuple[int, int | None]) -> list[Attempt]:
    return [Attempt(time=WHEN, step=step, reached=reached) for step, reached in noted]


def test_a_run_that_never_stopped_says_nothing_of_attempts() -> None:
    assert report._restarts([]) == report._restarts(attempts((0, None))) == ""
    assert report._restarts(attempts((5, None))) == ""


def test_a_run_that_went_on_says_when_and_where_and_what_was_done_again() -> None:
    text = report._restarts(attempts((0, None), (30, 37), (60, 60)))
    assert "went on 2 times; 7 steps were done again." in text
    assert text.count("<td>2026-11-28 04:05 UTC</td>") == 3
    assert "<td>went on from step 30; steps 31 to 37 were done again</td>" in text
    assert "<td>went on from step 60</td>" in text
    once = report._restarts(attempts((1_000, 1_001)))
    assert "went on once; 1 step was done again." in once
    assert "<td>went on from step 1,000; step 1,001 was done again</td>" in once
    assert "no step was done again" in report._restarts(attempts((4, 4)))


def test_a_run_that_went_on_in_another_layout_says_which_part_had_which() -> None:
    noted = attempts((0, None), (30, 37))
    layouts = ("dp 2 x mp 1 x pp 1", "1 rank")
    noted = [attrs.evolve(one, layout=layout) for one, layout in zip(noted, layouts, strict=True)]
    text = report._restarts(noted)
    assert "<td>began</td><td>dp 2 x mp 1 x pp 1</td>" in text
    assert "were done again</td><td>1 rank</td>" in text
    same = report._restarts([attrs.evolve(one, layout="1 rank") for one in noted])
    assert "1 rank" not in same


def test_many_attempts_are_told_by_the_first_and_the_last() -> None:
    text = report._restarts(attempts((0, None), *((step, step) for step in range(1, 50))))
    assert "went on 49 times" in text
    assert text.count("<tr>") == 8


@pytest.mark.parametrize(
    ("noted", "joints"),
    [
        (((0, None), (30, 37), (60, 60)), [30, 60]),
        (((0, None), (30, 37), (20, 40), (60, 60)), [20, 60]),
        (((0, None), (30, 37), (30, 31)), [30]),
        (((0, None), (0, 7)), []),
        (((5, None),), []),
    ],
)
def test_the_curve_is_marked_where_it_is_another_process_s(
    noted: tuple[tuple[int, int | None], ...], joints: list[int]
) -> None:
    assert report._joints(attempts(*noted)) == joints
    metrics = [{"step": step, "loss": 2.0, "tokens_per_second": 50.0} for step in range(1, 70)]
    drawn = report._loss(metrics, 100, [2.0 * step for step in range(1, 70)], attempts(*noted))
    assert drawn.count("went on after a stop") == (3 if joints else 0)
    assert drawn.count("stroke-dasharray") == 3 * (len(joints) + bool(joints))


def test_time_is_that_of_the_tokens_that_a_step_has() -> None:
    metrics = [{"step": step, "loss": 2.0, "tokens_per_second": 50.0} for step in (1, 2)]
    assert report._seconds([{"step": 0, "eval_loss": 3.0}, *metrics], tokens=100) == [2.0, 4.0]
    assert report._loss(metrics, 100, [2.0, 4.0]).count("<svg") == 3
    assert report._loss([], 100, []).count("<svg") == 3


@pytest.mark.parametrize(
    ("before", "after", "closing", "sentence"),
    [
        (300.4, 50.07, "6.0 times lower", "fell from 300.40 to 50.07"),
        (50.0, 300.0, "6.0 times higher", "rose from 50.00 to 300.00"),
        (300.42, 299.48, "0.3% lower", "fell from 300.42 to 299.48"),
        (300.0, 303.0, "1.0% higher", "rose from 300.00 to 303.00"),
        (300.0, 300.01, "unchanged", "rose from 300.00 to 300.01"),
        (300.0, 300.001, "unchanged", "stayed at 300.00"),
        (math.inf, math.inf, "unchanged", "stayed at inf"),
    ],
)
def test_a_change_is_told_as_large_as_it_is(
    before: float, after: float, closing: str, sentence: str
) -> None:
    result = Result(task="pretrain", perplexity_before=before, perplexity=after)
    assert str(result).endswith(f" after: {closing}")
    assert report._moved("It", before, after, ",.2f") == f"It {sentence}"
