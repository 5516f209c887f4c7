"""Every block of docs/tutorial.md, in fewer steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import pages

FEWER = {"steps = 400": "steps = 6", "evaluate_every = 100": "", "steps = 100": "steps = 4"}


@pytest.mark.usefixtures("elsewhere")
def test_the_tutorial_goes_from_data_to_deployment(capsys: Any) -> None:
    Path("mine.txt").write_text("The cat sat on the mat, and the dog ran to the barn.\n" * 60)
    assert pages.run("tutorial.md", FEWER, {}) > 6
    said = capsys.readouterr().out
    assert "  ~ 2 finetune   weights of stage 1 optim.lr 0.003 -> 0.001" in said
    assert said.count("The statement") == 2
