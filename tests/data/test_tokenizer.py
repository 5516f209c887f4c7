from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, GPT2Tokenizer, GPT2TokenizerFast

from gpt2dsl.data import tokenizer as module
from gpt2dsl.data import vocabulary
from gpt2dsl.data.tokenizer import END, Tokenizer
from gpt2dsl.errors import InputError

TEXTS = [
    "",
    "Hello, world! It's we'll they've I'M don't 'tis",
    "def f(x):\n    return {'a': [1, 22, 333]}  # ok\n\n\n\tpass\r\n",
    "今天天气很好。我們去公園吧！ﾊﾝｶｸ",
    "🤖👨‍👩‍👧‍👦 🇩🇪 ❤️",
    "e\u0301 a\u0308 क्षि नि ก็",
    "".join(map(chr, range(256))),
    f"a{END}b {END} c{END}{END} <|endoftext| >",
    " \n \n  \u3000\xa0 x  y \t",
    "\ufeff\ufffd\U0010ffff",
]


@pytest.fixture(scope="session")
def fast() -> Any:
    vocab, merges = module._published()
    return GPT2TokenizerFast(vocab_file=str(vocab), merges_file=str(merges))


@pytest.fixture(scope="session")
def slow() -> Any:
    vocab, merges = module._published()
    return GPT2Tokenizer(vocab_file=str(vocab), merges_file=str(merges))


@pytest.fixture(scope="session")
def saved(gpt2: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    gpt2.save(folder, model_max_length=1024)
    return folder


def test_the_published_vocabulary_has_its_known_ids(gpt2: Tokenizer) -> None:
    assert (len(gpt2), gpt2.eos) == (50257, 50256)
    assert gpt2.encode("Hello world") == [15496, 995]


@pytest.mark.parametrize("text", TEXTS)
def test_ids_and_text_are_those_of_transformers(
    gpt2: Tokenizer, fast: Any, slow: Any, text: str
) -> None:
    ids = gpt2.encode(text)
    assert ids == fast(text)["input_ids"] == slow(text)["input_ids"]
    assert gpt2.decode(ids) == text == slow.decode(ids)


@given(st.text())
def test_any_text_has_the_ids_of_transformers_and_comes_back(
    gpt2: Tokenizer, fast: Any, slow: Any, text: str
) -> None:
    ids = gpt2.encode(text)
    assert ids == fast(text)["input_ids"] == slow(text)["input_ids"]
    assert gpt2.decode(ids) == text


ALPHABETS = [
    "".join(map(chr, range(32))) + "\x7f\x85\u2028 a",
    "abcdefghij ABC 0123456789 '.,!?-\n\t",
    "'s 't 're 've 'm 'll 'd \u2019",
    "的一是不了人我在有他这为之大来以个中上们，。！？ ",
    "🤖👨👩👧\u200d❤\ufe0f🇩🇪🏽 ",
    "e\u0301a\u0308o\u0302n\u0303 \u0915\u094d\u0937\u093f\u0e19\u0e34 ",
    "<|endoftext|> \n",
    " \u00a0\u3000\u2003\ufeff\r\n\tx1",
]


def test_a_hundred_thousand_random_strings_have_the_ids_of_transformers(
    gpt2: Tokenizer, fast: Any, slow: Any
) -> None:
    chance = random.Random(0)
    anything = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    alphabets = [*ALPHABETS, anything]
    texts = [
        "".join(chance.choices(chance.choice(alphabets), k=chance.randrange(1, 16)))
        for _ in range(100_000)
    ]
    ids = gpt2.encode_batch(texts)
    assert ids == fast(texts)["input_ids"]
    # The one in Python is a hundred times slower: a tenth of them.
    assert ids[::10] == slow(texts[::10])["input_ids"]


@given(st.lists(st.integers(0, 50256), max_size=20))
def test_any_ids_have_the_text_of_transformers(gpt2: Tokenizer, fast: Any, ids: list[int]) -> None:
    assert gpt2.decode(ids) == fast.decode(ids, clean_up_tokenization_spaces=False)
    assert gpt2.decode(ids, skip_special=True) == fast.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


def test_half_a_surrogate_pair_is_refused(gpt2: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"character 2 is half a surrogate pair.*G2-303"):
        gpt2.encode("a\udcff")


def test_the_digest_written_down_is_the_digest(gpt2: Tokenizer) -> None:
    again = Tokenizer.load("gpt2")
    del again.digest
    assert again.digest == gpt2.digest == module.PUBLISHED_DIGEST


def _without(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


@pytest.mark.parametrize("change", [_without(), _without("tokenizer.json")])
def test_a_saved_tokenizer_is_the_same_to_us_and_to_transformers(
    gpt2: Tokenizer, saved: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    change(folder)
    ours = Tokenizer.load(folder)
    assert (ours.digest, ours.eos, len(ours)) == (gpt2.digest, gpt2.eos, len(gpt2))
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    theirs = AutoTokenizer.from_pretrained(folder)
    assert (theirs.model_max_length, theirs.eos_token_id, len(theirs)) == (1024, 50256, 50257)
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"] == gpt2.encode(text)


def test_a_folder_that_transformers_saved_is_read(
    gpt2: Tokenizer, fast: Any, tmp_path: Path
) -> None:
    fast.save_pretrained(tmp_path)
    found = Tokenizer.load(tmp_path)
    assert found.splittable
    assert found.digest == gpt2.digest


def test_training_gives_the_same_vocabulary_in_every_process() -> None:
    code = (
        "from gpt2dsl.data.source import Source; from gpt2dsl.data.tokenizer import Tokenizer;"
        "print(Tokenizer.train(Source.open('sample:valid').documents(), 500).digest)"
    )
    run = [sys.executable, "-c", code]
    first, second = (subprocess.run(run, capture_output=True, check=True).stdout for _ in "12")
    assert first == second


@given(text=st.text())
def test_a_trained_vocabulary_encodes_any_text(trained: Tokenizer, text: str) -> None:
    assert trained.decode(trained.encode(text)) == text


@pytest.fixture(scope="session")
def trained() -> Tokenizer:
    return Tokenizer.train(["the cat sat on the mat " * 9, f"the end {END}"], 280)


def test_a_trained_vocabulary_has_learnt_and_is_read_by_transformers(
    trained: Tokenizer, tmp_path: Path
) -> None:
    assert 257 < len(trained) <= 280
    assert len(trained.encode(" the the")) == 2
    assert trained.encode(END) == [trained.eos]
    trained.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert Tokenizer.load(tmp_path).digest == trained.digest
    for text in TEXTS:
        assert theirs(text)["input_ids"] == trained.encode(text)


def test_a_vocabulary_without_the_end_grows_by_it(trained: Tokenizer, tmp_path: Path) -> None:
    library = vocabulary.library()
    inner = library.ByteLevelBPETokenizer()
    inner.train_from_iterator(["some text"], vocab_size=260, show_progress=False)
    inner.save_model(str(tmp_path))
    found = Tokenizer.load(tmp_path)
    assert found.encode(END) == [found.eos] == [len(found) - 1]
    assert found.digest != trained.digest


def test_absent_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it is not there \[G2-301"):
        Tokenizer.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no tokenizer.json, and no vocab.json \[G2-301"):
        Tokenizer.load(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(InputError, match=r"no tokenizer.json, and no merges.txt \[G2-301"):
        Tokenizer.load(tmp_path)


def _vocab(folder: Path, **changes: Any) -> None:
    path = folder / "vocab.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "vocab.json").write_text('{"a": 0'), "vocab.json: it is not JSON"),
        (lambda f: (f / "vocab.json").write_text("[]"), "vocab.json: it is not a JSON object"),
        (lambda f: (f / "vocab.json").write_text("[" * 99999), "vocab.json: it is not JSON"),
        (lambda f: _vocab(f, the="x"), "the id of token 'the' is 'x'"),
        (lambda f: _vocab(f, new=900), "are not 0 to"),
        (lambda f: (f / "vocab.json").write_text('{"a": 0}'), "is not in the vocabulary"),
        (lambda f: (f / "merges.txt").write_text("t h e\n"), "merges.txt: line 1 is not a pair"),
        (lambda f: (f / "merges.txt").write_text("\nx\n"), "merges.txt: line 2 is not a pair"),
        (lambda f: (f / "merges.txt").write_text("x y\n"), "line 1: 'xy' is not in the vocab"),
        (lambda f: (f / "merges.txt").write_bytes(b"\xff"), "merges.txt: byte 0 is not UTF-8"),
        (lambda f: (f / "tokenizer_config.json").write_text("{"), "config.json: it is not JSON"),
    ],
)
def test_damage_of_vocabulary_and_merges_is_said(
    trained: Tokenizer, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    trained.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    damage(tmp_path)
    with pytest.raises(InputError, match=said) as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.faults[0].code == "G2-304"
    assert "\n" not in str(caught.value)


def test_a_vocabulary_that_would_lose_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(InputError, match="254 of the 256 bytes are no tokens"):
        Tokenizer.load(tmp_path)


def _described(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "tokenizer.json").write_bytes(b"\xff{"), "it is not JSON"),
        (_described(lambda d: d.pop("model")), "none, ByteLevel, ByteLevel, not a byte-level BPE"),
        (_described(lambda d: d["model"].update(type="WordPiece")), "WordPiece, ByteLevel"),
        (_described(lambda d: d["model"].update(merges=[["x", "yz"]])), "out of vocabulary"),
        (_described(lambda d: d.update(added_tokens=3)), "invalid type"),
        (_described(lambda d: d["model"]["vocab"].pop("z")), "1 of the 256 bytes are no tokens"),
    ],
)
def test_damage_of_a_tokenizer_json_is_said(
    trained: Tokenizer, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    trained.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=said) as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.faults[0].code == "G2-304"
    assert "\n" not in str(caught.value)


def test_what_a_file_says_of_padding_truncation_and_dropout_is_left_out(
    trained: Tokenizer, tmp_path: Path
) -> None:
    trained.save(tmp_path)
    inner = vocabulary.library().Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    inner.enable_padding(length=50)
    inner.enable_truncation(3)
    inner.model.dropout = 0.9
    inner.save(str(tmp_path / "tokenizer.json"))
    found = Tokenizer.load(tmp_path)
    assert found.encode("the cat sat on the mat") == trained.encode("the cat sat on the mat")


def test_a_tokenizer_that_splits_otherwise_is_told_apart(
    trained: Tokenizer, tmp_path: Path
) -> None:
    trained.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"add_prefix_space": True}))
    found = Tokenizer.load(tmp_path)
    assert not found.splittable
    assert found.digest != trained.digest


def test_the_settings_decide_about_the_first_space_and_not_the_pre_tokenizer(
    trained: Tokenizer, tmp_path: Path
) -> None:
    trained.save(tmp_path)
    _described(lambda d: d["pre_tokenizer"].update(add_prefix_space=True))(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert Tokenizer.load(tmp_path).encode("the") == theirs("the")["input_ids"]
    assert Tokenizer.load(tmp_path).digest == trained.digest
