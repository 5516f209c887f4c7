"""Hypothesis strategies: any valid part, any valid recipe."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st

from gpt2dsl.parts import TABLES, TASKS, Parallel, Part
from gpt2dsl.parts.rules import RULE, Rule
from gpt2dsl.recipe import Recipe

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
BY_TYPE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (None, st.none()),
    (True, st.booleans()),
    ("a", TEXT),
    (["a", "b"], st.lists(TEXT, min_size=2, max_size=3, unique=True)),
    (1, st.one_of(st.integers(1, 10), st.integers(300, 10_000), st.integers(2, 2**63 - 1))),
    ({"a": 1}, st.dictionaries(TEXT, st.integers(1, 99), max_size=3)),
    (0.5, st.floats(0, 1, exclude_max=True) | st.floats(0, 1e15)),
]
"""A value of each type, and a strategy for more of them."""


def _value(field: attrs.Attribute[Any]) -> st.SearchStrategy[Any]:
    """Any value that the field accepts."""
    rule: Rule = field.metadata[RULE]
    if rule.options:
        return st.sampled_from(rule.options)
    if "layout" in field.name:
        parallel = st.builds(Parallel, dp=st.integers(1, 9), recompute=st.just("full"))
        return parallel if rule.required else st.none() | parallel
    typed = [strategy for probe, strategy in BY_TYPE if rule.typed(probe)]
    return st.one_of(typed).filter(lambda value: rule.problem(value) is None)


@st.composite
def _part(draw: st.DrawFn, cls: type[Part]) -> Part:
    given = {
        field.name: draw(_value(field))
        for field in cls.fields()
        if field.default is attrs.NOTHING or draw(st.booleans())
    }
    for one, other in cls.exclusive:
        if given.get(one) is not None:
            given.pop(other, None)
    return cls(**given)


def parts(table: str) -> st.SearchStrategy[Part]:
    """Any part of one kind."""
    classes = list(TASKS.values()) if table == "task" else [TABLES[table]]
    return st.one_of([_part(cls) for cls in classes])


@st.composite
def lists_of_parts(draw: st.DrawFn) -> list[Part]:
    """Any parts of different kinds, in any order."""
    tables = draw(st.lists(st.sampled_from(list(TABLES)), unique=True, max_size=6))
    return [draw(parts(table)) for table in tables]


def recipes() -> st.SearchStrategy[Recipe]:
    """Any recipe."""
    return lists_of_parts().map(lambda found: Recipe(*found))
