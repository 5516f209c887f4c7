from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2dsl import LoRA
from gpt2dsl.parts import TABLES, Part
from tests.strategies import parts, recipes

COPIES = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@settings(max_examples=60, deadline=None)
@given(part=st.sampled_from(sorted(TABLES)).flatmap(parts), how=st.sampled_from(sorted(COPIES)))
def test_a_part_survives_pickle_and_copy_with_its_origins(part: Part, how: str) -> None:
    again = COPIES[how](part)
    assert again == part
    assert hash(again) == hash(part)
    assert (again.origin, again.origins) == (part.origin, part.origins)


@settings(max_examples=20, deadline=None)
@given(recipe=recipes())
def test_a_recipe_that_goes_to_another_process_is_the_same_there(recipe: object) -> None:
    assert pickle.loads(pickle.dumps(recipe)) == recipe  # noqa: S301


@pytest.mark.parametrize("how", sorted(COPIES))
def test_a_table_of_patterns_stays_frozen_when_it_is_copied(how: str) -> None:
    again = COPIES[how](LoRA(alpha_pattern={"c_attn": 4}))
    assert again.alpha_pattern == {"c_attn": 4}
    for change in (lambda table: table.update(x=1), lambda table: table.__ior__({"x": 1})):
        with pytest.raises(TypeError, match=r"a recipe does not change"):
            change(again.alpha_pattern)
