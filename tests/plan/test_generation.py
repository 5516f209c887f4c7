from __future__ import annotations

import pytest

from gpt2dsl import Generation, Model, SpecError, Task

BASE = Model(size="124m") | Task.generate(prompts=["a"])


@pytest.mark.parametrize(
    ("generation", "notes"),
    [
        (Generation(), ()),
        (Generation(top_k=5), ("generation.top_k changes nothing without do_sample",)),
        (Generation(top_k=5, do_sample=True), ()),
        (
            Generation(length_penalty=2.0),
            ("generation.length_penalty changes nothing without beams",),
        ),
        (Generation(length_penalty=2.0, beams=2), ()),
    ],
)
def test_the_plan_notes_values_that_change_nothing(
    generation: Generation, notes: tuple[str, ...]
) -> None:
    assert (BASE | generation).plan().notes == notes


def test_values_that_do_not_go_together_are_faults_of_the_plan() -> None:
    with pytest.raises(SpecError, match="there are only 2 beams"):
        (BASE | Generation(beams=2, num_return_sequences=3)).plan()
