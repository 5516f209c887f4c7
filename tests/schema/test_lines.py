from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.schema.lines import lines_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=5))
def test_a_line_begins_with_its_key(content: dict[str, object]) -> None:
    text = json.dumps(content, indent=2)
    lines = text.split("\n")
    found = lines_of(text)
    assert found.keys() == content.keys()
    assert all(lines[found[key] - 1].startswith(f"  {json.dumps(key)}:") for key in content)


def test_of_a_key_that_is_there_twice_the_last_line_counts() -> None:
    assert lines_of('{"a": {"b": 1},\n"b": "\\"c\\": 1",\n"a": [":"]}') == {"a": 3, "b": 2}
