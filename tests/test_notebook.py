"""Objects at a prompt are short; in a notebook they show what print shows."""

from __future__ import annotations

import html
from typing import Any

import pytest

import gpt2dsl
from gpt2dsl import Model, Task, Train

RECIPE = Model(size="nano") | Train(seq_length=32, steps=1) | Task.pretrain(data="sample:train")
CHAIN = RECIPE >> Task.generate(prompts=["<b>"])


@pytest.mark.parametrize("plan", [RECIPE.plan(), CHAIN.plan()])
def test_a_plan_is_one_line_and_shows_its_table(plan: Any) -> None:
    assert repr(plan).endswith("; print() shows it>")
    assert len(repr(plan)) < 100
    assert html.escape(str(plan)) in plan._repr_html_()


@pytest.mark.parametrize("recipe", [RECIPE, CHAIN])
def test_a_recipe_is_the_python_that_makes_it_and_shows_its_toml(recipe: Any) -> None:
    assert eval(repr(recipe), vars(gpt2dsl)) == recipe  # noqa: S307
    assert html.escape(recipe.to_toml()) in recipe._repr_html_()
    assert "<b>" not in recipe._repr_html_().replace("&lt;b&gt;", "")
