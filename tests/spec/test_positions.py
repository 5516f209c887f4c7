from __future__ import annotations

import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.spec.positions import positions

TRICKY = '''\
# a comment with [model] and key = 1
extends = "base # not a comment"

[model]   # trailing [x]
size = "nano"
weights = """
[not.a.table]
key = 1
"""
[task]
prompts = [
  "a ] b",  # x = 1
  'c = "d"',
  """e
  f""",
]
kind = "generate"
"quoted key" = {inner = 1, other = "}"}
dotted.key = 2
'literal' = '\\'
[ "spaced" . table ]
last = """"two quotes inside"" """
'''


def test_lines_of_tables_and_keys_whatever_the_values_hold() -> None:
    assert positions(TRICKY) == {
        "extends": 2,
        "model": 4,
        "model.size": 5,
        "model.weights": 6,
        "task": 10,
        "task.prompts": 11,
        "task.kind": 17,
        "task.quoted key": 18,
        "task.dotted.key": 19,
        "task.literal": 20,
        "spaced.table": 21,
        "spaced.table.last": 22,
    }


KEYS = st.text("abcdef_", min_size=1, max_size=5)
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(),
    st.lists(st.text("[]{}\"'#=\n\\ a")),
    st.dictionaries(KEYS, st.text("[]{}\"'#=\n\\ a"), max_size=2).map(lambda d: [d] if d else []),
)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4), st.booleans())
def test_every_key_that_a_toml_writer_writes_is_found_on_its_line(
    document: dict[str, dict[str, object]], multiline: bool
) -> None:
    text = tomli_w.dumps(document, multiline_strings=multiline)
    found = positions(text)
    lines = text.split("\n")
    for table, values in document.items():
        for key, value in values.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                continue  # written as an array of tables
            assert lines[found[f"{table}.{key}"] - 1].startswith(f"{key} = ")
