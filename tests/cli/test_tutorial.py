"""Every block of docs/tutorial.md, in fewer steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests import pages

FEWER = {
    "steps = 400": "steps = 6", "evaluate_every = 100": "", "steps = 200": "steps = 4",
    " | head -n 5": "", "gpt2dsl diff runs/base-400ac12e runs/base-a7ee46ec\n": "",
}  # fmt: skip
OTHERS = re.compile("^(yes|curl|gpt2dsl serve) .*\n", re.MULTILINE)
"""Commands of a shell, and of a server: tests/test_pages.py runs all of the page as it stands."""


@pytest.mark.usefixtures("elsewhere")
def test_the_tutorial_goes_from_data_to_deployment(capsys: Any) -> None:
    Path("mine.txt").write_text("The cat sat on the mat, and the dog ran to the barn.\n" * 60)
    page = (pages.DOCS / "tutorial.md").read_text("utf-8")
    others = {line[0]: "" for line in OTHERS.finditer(page)}
    assert len(others) == 3
    assert pages.run("tutorial.md", FEWER | others, {}) > 6
    said = capsys.readouterr().out
    assert "1 pretrain   unchanged, not run again" in said
    assert "  ~ 3 evaluate   weights of stage 2 train.batch_size 8 -> 4" in said
    assert said.count("The cat") == 2
