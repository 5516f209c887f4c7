"""The warning that training only made held-out text worse."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gpt2dsl.engine import held_out


@pytest.mark.parametrize(
    ("losses", "warns"),
    [
        ({0: 2.0, 5: 2.1, 10: 2.2}, True),
        ({0: 2.0, 5: 2.0, 10: 2.2}, False),
        ({0: 2.0, 5: 1.9, 10: 2.2}, False),
        ({0: 2.0}, False),
        ({5: 2.1}, False),
    ],
)
def test_a_warning_means_that_every_later_evaluation_is_worse(
    losses: Mapping[int, float], *, warns: bool
) -> None:
    evaluations: list[dict[str, float]] = [
        {"step": step, "eval_loss": loss} for step, loss in losses.items()
    ]
    said = ["at no evaluation was the loss on eval_data as low as before training"] * warns
    assert held_out.warnings(evaluations) == said
