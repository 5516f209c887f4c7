"""What is kept in a cache depends on everything that decides it."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2dsl.data import digests, prepare, tokens
from gpt2dsl.data.form import DataFormat
from gpt2dsl.data.source import Source
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.errors import SpecError
from tests.vocabularies import vocabulary

ROWS = [
    'text\tlabel\tother\nthe cat\t1\tcat\n"th\tthe"\t0\tx\n',
    "text,label,other\nthe cat,1,cat\nth,0,x\n",
    '{"text": "the cat", "label": 1, "other": "cat"}\n{"text": "th", "other": "x"}\n',
    "= Title =\n\nthe cat @-@ th .\n\n= Other =\n\nthe\n",
    "the cat\t1\nth\t0\n",
]
FORMS = st.builds(
    DataFormat,
    format=st.sampled_from(
        ["text", "jsonl", "csv", "tsv", "wikitext", "sst2", "imdb", "agnews", "cola"]
    ),
    text=st.sampled_from(["text", "other", 0, 2]),
    label=st.sampled_from(["label", "other", 1]),
    header=st.booleans(),
    max_bad_rows=st.sampled_from([0, 1, 9]),
)
FLAGS: dict[str, list[Any]] = {
    "add_prefix_space": [False, True],
    "add_bos_token": [False, True],
    "eos_token": ["<|endoftext|>", "cat"],
    "clean_up_tokenization_spaces": [False, True],
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "tokenizer"
    vocabulary(folder)
    return folder


@attrs.frozen
class Made:
    """Files, their form, and a tokenizer: what a token stream is made of."""

    files: tuple[bytes, ...]
    form: DataFormat
    flags: tuple[tuple[str, Any], ...]
    added: tuple[str, ...]


def changed(data: st.DataObject, made: Made) -> Made:
    """The same but for one byte, one key of [data], or one key of the tokenizer."""
    kind = data.draw(st.sampled_from(["byte", "files", "form", "flag", "added"]))
    if kind == "byte":
        number = data.draw(st.integers(0, len(made.files) - 1))
        content = bytearray(made.files[number])
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.sampled_from(b' \n\t",{ax=1'))
        files = (*made.files[:number], bytes(content), *made.files[number + 1 :])
        return attrs.evolve(made, files=files)
    if kind == "files":
        return attrs.evolve(made, files=(*data.draw(st.permutations(made.files)), b""))
    if kind == "form":
        name = data.draw(st.sampled_from([field.name for field in attrs.fields(DataFormat)]))
        value = getattr(data.draw(FORMS), name)
        return attrs.evolve(made, form=attrs.evolve(made.form, **{name: value}))
    if kind == "flag":
        key = data.draw(st.sampled_from(sorted(FLAGS)))
        flags = dict(made.flags) | {key: data.draw(st.sampled_from(FLAGS[key]))}
        return attrs.evolve(made, flags=tuple(sorted(flags.items())))
    return attrs.evolve(made, added=(*made.added, "the cat"))


def outcome(made: Made, plain: Path) -> tuple[str, list[int]] | None:
    """The name under which a stream is kept, and the stream; None where it is refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, content in enumerate(made.files):
            (folder / f"{number}.txt").write_bytes(content)
        shutil.copytree(plain, folder / ".tokenizer")
        path = folder / ".tokenizer" / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | dict(made.flags)))
        whole = folder / ".tokenizer" / "tokenizer.json"
        described = json.loads(whole.read_text())
        like = described["added_tokens"][0]
        for number, token in enumerate(made.added):
            extra = {**like, "id": 264 + number, "content": token, "special": False}
            described["added_tokens"].append(extra)
        whole.write_text(json.dumps(described))
        file = io.BytesIO()
        try:
            tokenizer = Tokenizer.load(folder / ".tokenizer")
            source = Source.open(name, made.form)
            key = tokens._path(source.digest(), tokenizer).name
            tokens._write(file, source, tokenizer, None)
        except SpecError:
            return None
    file.seek(0)
    return key, np.load(file).tolist()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_of_one_change_either_the_key_knows_or_the_tokens_are_the_same(
    plain: Path, data: st.DataObject
) -> None:
    contents = st.sampled_from([rows.encode() for rows in ROWS])
    files = data.draw(st.lists(contents, min_size=1, max_size=2, unique=True))
    made = Made(tuple(files), data.draw(FORMS), (), ())
    one, other = outcome(made, plain), outcome(changed(data, made), plain)
    if one and other and one[0] == other[0]:
        assert one[1] == other[1]


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_vocabulary_is_kept_under_all_that_it_is_trained_on(data: st.DataObject) -> None:
    made = Made((data.draw(st.sampled_from(ROWS)).encode() * 3,), data.draw(FORMS), (), ())
    found = []
    for one in (made, changed(data, made)):
        with tempfile.TemporaryDirectory() as name:
            for number, content in enumerate(one.files):
                (Path(name) / f"{number}.txt").write_bytes(content)
            try:
                source = Source.open(name, one.form)
                trained = Tokenizer.train(source.documents(), 270)
            except SpecError:
                return
            found.append((prepare._folder(source.digest(), 270), trained.digest))
    (key, vocabulary_), (other_key, other) = found
    assert key != other_key or vocabulary_ == other


def test_contents_that_changed_behind_the_times_back_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LARGE", 4)
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    path = tmp_path / "a.txt"
    path.write_text("the cat")
    stamp = path.stat()
    first = Source.open(str(path)).digest()
    path.write_text("the dog")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert Source.open(str(path)).digest() != first
