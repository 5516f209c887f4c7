from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.data import documents

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def refused(constant: str) -> NoReturn:
    raise AssertionError(constant)


@given(VALUES)
def test_no_number_is_written_that_is_none(value: Any) -> None:
    text = documents.dumps({"value": value})
    back = json.loads(text, parse_constant=refused)
    written = json.dumps({"value": value})
    if "Infinity" not in written and "NaN" not in written:
        assert back == json.loads(written)


def test_a_number_that_is_none_is_null() -> None:
    found = documents.dumps({"a": math.inf, "b": [-math.inf, 1.5, (math.nan,)]})
    assert json.loads(found) == {"a": None, "b": [None, 1.5, [None]]}
