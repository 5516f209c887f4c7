from __future__ import annotations

import pytest

from gpt2dsl.cli.run import RESUME, _again


@pytest.mark.parametrize(
    ("settings", "anew", "expected"),
    [
        ([], [], "gpt2dsl run x.toml"),
        (["train.steps=3"], [], "gpt2dsl run x.toml --set train.steps=3"),
        ([], [RESUME], "gpt2dsl run x.toml --set train.resume=auto"),
        (["train.resume=never"], [RESUME], "gpt2dsl run x.toml --set train.resume=auto"),
        (
            ["stage.2.optim.lr=1"],
            ["stage.1.train.resume"],
            "gpt2dsl run x.toml --set stage.2.optim.lr=1 --set stage.1.train.resume=auto",
        ),
    ],
)
def test_the_command_that_goes_on_does_not_start_anew(
    settings: list[str], anew: list[str], expected: str
) -> None:
    assert _again("x.toml", settings, anew, several=False) == expected
