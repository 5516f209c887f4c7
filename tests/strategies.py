"""Hypothesis strategies: any valid part, any valid recipe."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st

from gpt2dsl.parts import TABLES, TASKS, Parallel, Part
from gpt2dsl.parts.rules import RULE, FieldRule
from gpt2dsl.recipe import Recipe

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NUMBER = st.floats(-9, 9) | st.integers(-9, 9)
BY_TYPE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (None, st.none()),
    (True, st.booleans()),
    ("a", TEXT),
    (["a", "b"], st.lists(TEXT, min_size=2, max_size=3, unique=True)),
    (1, st.one_of(st.integers(1, 10), st.integers(300, 10_000), st.integers(2, 2**63 - 1))),
    ([1, 2], st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3)),
    ([[1, 2]], st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=3), max_size=3)),
    (
        [[[1], 0.5]],
        st.lists(st.tuples(st.lists(st.integers(0, 99), min_size=1), NUMBER).map(list), max_size=3),
    ),
    ([1, 0.5], st.tuples(st.integers(0, 99), st.floats(0.1, 9) | st.integers(1, 9)).map(list)),
    ({"a": 1}, st.dictionaries(TEXT, st.integers(1, 99), max_size=3)),
    (0.5, st.floats(0, 1, exclude_max=True) | st.floats(0, 1e15)),
]
"""A value of each type, and a strategy for more of them."""


def _value(field: attrs.Attribute[Any]) -> st.SearchStrategy[Any]:
    """Any value that the field accepts."""
    rule: FieldRule = field.metadata[RULE]
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


def generation_configs(vocab: int) -> st.SearchStrategy[dict[str, Any]]:
    """The content of any generation_config.json that transformers accepts.

    Args:
        vocab: ids of the network.
    """
    ids = st.integers(0, vocab - 1)
    some = st.lists(ids, min_size=1, max_size=4)
    share, factor = st.floats(0.05, 1.0), st.floats(0.5, 2.0)
    size = st.integers(0, 3)
    keys = {
        "max_length": st.integers(2, 14) | st.just(20),
        "max_new_tokens": st.integers(1, 8),
        "min_length": st.integers(-1, 12),
        "min_new_tokens": st.integers(0, 6),
        "early_stopping": st.sampled_from([False, True, "never"]),
        "num_beams": st.sampled_from([1, 1, 2, 3]),
        "num_return_sequences": st.sampled_from([1, 1, 1, 2]),
        "do_sample": st.booleans(),
        "temperature": st.none() | st.floats(0.0, 2.0),
        "top_k": st.none() | st.integers(-1, 60),
        "top_p": st.none() | st.floats(0.05, 1.5),
        "min_p": st.none() | share,
        "typical_p": st.none() | share,
        "epsilon_cutoff": st.floats(0.0, 1.1),
        "eta_cutoff": st.floats(0.0, 1.1),
        "repetition_penalty": st.none() | factor,
        "encoder_repetition_penalty": factor,
        "length_penalty": st.none() | st.floats(-3, 3),
        "no_repeat_ngram_size": size,
        "encoder_no_repeat_ngram_size": size,
        "bad_words_ids": st.lists(some, min_size=1, max_size=3),
        "sequence_bias": st.lists(
            st.tuples(
                st.lists(st.integers(1, vocab - 1), min_size=1, max_size=2), st.floats(-9, 9)
            ).map(list),
            min_size=1,
            max_size=3,
        ),
        "suppress_tokens": st.none() | some,
        "begin_suppress_tokens": some,
        "forced_bos_token_id": st.none() | ids,
        "forced_eos_token_id": st.none() | ids | some,
        "exponential_decay_length_penalty": st.tuples(st.integers(0, 6), factor).map(list),
        "remove_invalid_values": st.booleans(),
        "renormalize_logits": st.booleans(),
        "eos_token_id": ids | some | st.just(vocab + 7) | st.just([3, vocab + 7]),
        "bos_token_id": st.none() | ids,
        "pad_token_id": ids,
        "use_cache": st.booleans(),
        "cache_implementation": st.sampled_from([None, "dynamic"]),
        "output_scores": st.just(False),
        "low_memory": st.booleans(),
        "diversity_penalty": st.floats(0, 1),
        "guidance_scale": st.sampled_from([None, 1, 1.5]),
        "max_time": st.none() | st.just(60.0),
        "token_healing": st.just(False),
        "transformers_version": st.just("4.57.6"),
        "a_key_of_nobody": st.integers(),
    }  # any of them
    names = st.lists(st.sampled_from(sorted(keys)), max_size=6, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({key: keys[key] for key in chosen}))
