from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AddedToken, AutoTokenizer, GPT2Tokenizer, GPT2TokenizerFast

from gpt2dsl.data.cleaning import CleanedText, cleaned
from gpt2dsl.data.source import Source
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.data.tokens import stream
from gpt2dsl.engine.generation.text import Pieces
from gpt2dsl.errors import InputError, SpecError
from gpt2dsl.weights.beside import fates_of
from gpt2dsl.weights.location import CheckpointLocation
from tests.folders import END, TEXTS, small_vocabulary, tokenizer_makers


@contextmanager
def written(make: Callable[[Path], Path]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        yield make(Path(place) / "made")


def ids_of(judge: Any, text: str) -> list[int]:
    return list(judge(text)["input_ids"])


def decodes_as_bytes(judge: Any) -> bool:
    """Whether no added token is one that the Rust decoder takes for bytes."""
    return all(token.content.isascii() for token in judge.added_tokens_decoder.values())


def assert_equal(ours: Tokenizer, judge: Any, texts: list[str]) -> None:
    assert len(ours) == len(judge)
    assert (ours.bos, ours.eos) == (judge.bos_token_id, judge.eos_token_id)
    assert (ours.unk, ours.pad) == (judge.unk_token_id, judge.pad_token_id)
    for text in texts:
        ids = ids_of(judge, text)
        assert ours.encode(text) == ids
        plain = judge(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, special=False) == plain
        cut = judge(text, truncation=True, max_length=4)["input_ids"]
        assert ours.encode_cut([text], 4) == [cut]
        if decodes_as_bytes(judge):
            assert ours.decode(ids) == judge.decode(ids)
            assert ours.decode(ids, skip_special=True) == judge.decode(
                ids, skip_special_tokens=True
            )
        pieces = Pieces(ours)
        assert "".join(pieces.add([i]) for i in ids) + pieces.rest() == ours.decode(ids)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=40)
@given(make=tokenizer_makers(), texts=st.lists(TEXTS, max_size=6))
def test_any_tokenizer_that_transformers_saves_is_the_same_here_and_saved_again(
    make: Callable[[Path], Path], texts: list[str]
) -> None:
    with written(make) as folder:
        try:
            judge = AutoTokenizer.from_pretrained(folder)
        except ValueError:  # it can't put a bos with spaces before texts
            return
        ours = Tokenizer.load(folder)
        assert_equal(ours, judge, texts)
        again = folder.with_name("again")
        ours.save(again)
        (again / "config.json").write_text('{"model_type": "gpt2"}')
        saved = AutoTokenizer.from_pretrained(again)
        assert saved.special_tokens_map == judge.special_tokens_map
        assert saved.chat_template == judge.chat_template
        for text in texts:
            assert ids_of(saved, text) == ids_of(judge, text)
        assert Tokenizer.load(again).digest == ours.digest


def change(path: Path, **keys: Any) -> None:
    """Set keys of a JSON file, which need not be there."""
    content = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps(content | keys), "utf-8")


def fast(folder: Path) -> Any:
    """The small vocabulary with ``<|endoftext|>``, as GPT2TokenizerFast saves it."""
    small_vocabulary(folder)
    tokenizer = GPT2TokenizerFast.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    change(folder / "config.json", model_type="gpt2")
    return tokenizer


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": END, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {END: {"id": END, "ids": [263], "tokens": [END]}},
}
AROUND = {
    "type": "RobertaProcessing",
    "sep": [END, 263],
    "cls": ["a", 65],
    "trim_offsets": True,
    "add_prefix_space": False,
}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
WORDS = {
    "type": "Split",
    "pattern": {"Regex": r"\s?\w+"},
    "behavior": "Isolated",
    "invert": False,
}
LENGTH = {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
FILLED = {
    "strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 7,
    "pad_type_id": 0, "pad_token": "<fill>",
}  # fmt: skip
USER = AddedToken("<|user|>", lstrip=True, rstrip=True, normalized=False)


def slow(**keys: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        small_vocabulary(folder)
        tokenizer = GPT2Tokenizer.from_pretrained(folder, **keys)
        tokenizer.add_tokens(["<|user|>", "<|bot|>"], special_tokens=True)
        tokenizer.save_pretrained(folder)
        change(folder / "config.json", model_type="gpt2")

    return write


def with_whole(**keys: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        fast(folder)
        change(folder / "tokenizer.json", **keys)

    return write


def with_settings(*, legacy: bool = False, **keys: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        fast(folder)
        if legacy:
            (folder / "tokenizer_config.json").unlink()
        change(folder / "tokenizer_config.json", **keys)

    return write


def of_class(name: str) -> Callable[[Path], None]:
    """Only a tokenizer.json, of a class that only the model's configuration names."""

    def write(folder: Path) -> None:
        fast(folder)
        for file in (
            "vocab.json",
            "merges.txt",
            "tokenizer_config.json",
            "special_tokens_map.json",
        ):
            (folder / file).unlink()
        change(folder / "config.json", tokenizer_class=name)

    return write


def with_special_map(folder: Path) -> None:
    small_vocabulary(folder)
    change(folder / "config.json", model_type="gpt2")
    token = {"content": "<|user|>", "lstrip": True, "rstrip": False, "normalized": True}
    change(folder / "special_tokens_map.json", pad_token=token, additional_special_tokens=["th"])
    change(folder / "added_tokens.json", **{"<|user|>": 264, "abc": 265})


ROWS: dict[str, Callable[[Path], Any]] = {
    "slow, with added tokens": slow(),
    "slow, begins with bos": slow(add_bos_token=True),
    "slow, begins with another bos": slow(add_bos_token=True, bos_token="<s>", pad_token="<pad>"),  # noqa: S106
    "slow, begins with a space": slow(add_prefix_space=True),
    "slow, special tokens are split": slow(split_special_tokens=True),
    "a space before each text": with_settings(add_prefix_space=True),
    "no word about the space": with_settings(legacy=True),
    "bos by the settings, not by the tokenizer.json": with_settings(add_bos_token=True),
    "a token before each text": with_whole(post_processor=TEMPLATE),
    "tokens around each text": with_whole(post_processor=AROUND),
    "two post-processors": with_whole(
        post_processor={
            "type": "Sequence", "processors": [{**BYTES, "use_regex": True}, TEMPLATE]
        }
    ),
    "composed characters": with_whole(normalizer={"type": "NFC"}),
    "lower case": with_whole(normalizer={"type": "Lowercase"}),
    "a split before the bytes": with_whole(
        pre_tokenizer={"type": "Sequence", "pretokenizers": [WORDS, BYTES]}
    ),
    "bytes by a normalizer": with_whole(normalizer={"type": "ByteLevel"}, pre_tokenizer=None),
    "two decoders": with_whole(
        decoder={"type": "Sequence", "decoders": [BYTES, {"type": "Fuse"}]}
    ),
    "left truncation and padding": with_whole(truncation=LENGTH, padding=FILLED),
    "no end": with_settings(eos_token=None, unk_token=None, bos_token=None),
    "an end that is new": with_settings(eos_token="</s>"),  # noqa: S106
    "tokens by name": with_settings(extra_special_tokens={"image_token": "<image>"}),
    "the general class": of_class("PreTrainedTokenizerFast"),
    "the general class, with an end": with_settings(
        tokenizer_class="PreTrainedTokenizerFast", eos_token=END
    ),
    "special tokens of old files": with_special_map,
}  # fmt: skip
SAMPLES = [
    "", "the cat", " the", f"<|user|>the cat<|bot|> the{END}", "a <|user|> b", "abc the cat x",
    "e\u0301 É 語 🤖", "the cat . n't  x", "<image><s></s><pad>", "thé\n\n the",
]  # fmt: skip


@pytest.mark.parametrize("write", ROWS.values(), ids=ROWS.keys())
def test_ids_texts_and_special_tokens_are_those_of_auto_tokenizer(
    tmp_path: Path, write: Callable[[Path], Any]
) -> None:
    write(tmp_path / "made")
    judge = AutoTokenizer.from_pretrained(tmp_path / "made")
    ours = Tokenizer.load(tmp_path / "made")
    assert_equal(ours, judge, SAMPLES)
    ours.save(tmp_path / "again")
    change(tmp_path / "again/config.json", model_type="gpt2")
    saved = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert saved.special_tokens_map == judge.special_tokens_map
    assert [ids_of(saved, text) for text in SAMPLES] == [ids_of(judge, text) for text in SAMPLES]


def test_added_words_are_their_own_text_and_not_what_their_letters_stand_for(
    tmp_path: Path,
) -> None:
    tokenizer = fast(tmp_path)
    tokenizer.add_tokens(["café", "đem", "Ġca", "é"])
    tokenizer.save_pretrained(tmp_path)
    ours = Tokenizer.load(tmp_path)
    ids = ours.encode("thecaféđem cat")
    assert ours.decode(ids) == "thecaféđem cat" == ours.bytes_of(ids).decode()
    # What the merges make, and single bytes, stay what they are to all other texts.
    assert ours.decode([259]) == " ca"
    assert ours.decode(ours.encode("退")) == "退"


FOREIGN = [
    ("vocab.txt", "BertTokenizer"),
    ("spiece.model", "T5Tokenizer"),
    ("tokenizer.model", "LlamaTokenizer"),
    ("sentencepiece.bpe.model", "XLMRobertaTokenizer"),
    ("vocab.txt", None),
    ("spiece.model", None),
    ("tokenizer.model", "GPT2Tokenizer"),
]


@pytest.mark.parametrize(("file", "name"), FOREIGN)
def test_another_kind_of_tokenizer_is_refused_by_the_name_of_its_file(
    tmp_path: Path, file: str, name: str | None
) -> None:
    (tmp_path / file).write_bytes(b"[UNK]\nthe\n")
    if name:
        change(tmp_path / "tokenizer_config.json", tokenizer_class=name)
    with pytest.raises(InputError, match=rf"{file}: .*data.tokenizer names another") as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.faults[0].code in ("G2-304", "G2-313")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"fix_mistral_regex": True}, "fix_mistral_regex is True"),
        ({"fast_tokenizer_files": ["tokenizer.4.json"]}, "fast_tokenizer_files"),
        ({"tokenizer_file": "/elsewhere/tokenizer.json"}, "tokenizer_file"),
        ({"from_slow": True, "bos_token": 5}, r"(?s)bos_token is 5.*from_slow"),
        ({"added_tokens_decoder": {"x": "<a>"}}, "added_tokens_decoder"),
        ({"tokenizer_class": "BertTokenizerFast"}, "names BertTokenizerFast as tokenizer_class"),
    ],
)
def test_a_key_that_asks_for_another_tokenizer_is_refused_by_name(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    fast(tmp_path)
    change(tmp_path / "tokenizer_config.json", **keys)
    with pytest.raises(SpecError, match=message) as caught:
        Tokenizer.load(tmp_path)
    assert {fault.code for fault in caught.value.faults} == {"G2-313"}


def test_a_tokenizer_json_may_leave_added_tokens_out(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    GPT2TokenizerFast.from_pretrained(small_vocabulary(tmp_path / "v")).save_pretrained(folder)
    (folder / "special_tokens_map.json").unlink()
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    del content["added_tokens"]
    path.write_text(json.dumps(content))
    judge = AutoTokenizer.from_pretrained(folder)
    assert_equal(Tokenizer.load(folder), judge, ["the cat", f"the{END} cat ."])


def test_a_class_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = small_vocabulary(tmp_path / "t")
    (folder / "special_tokens_map.json").write_text('{"tokenizer_class": []}')
    with pytest.raises(InputError, match=r"tokenizer_class is \[\]: a byte-level BPE of one of"):
        Tokenizer.load(folder)


def test_ids_that_transformers_would_move_are_refused(tmp_path: Path) -> None:
    small_vocabulary(tmp_path)
    change(tmp_path / "added_tokens.json", **{"<|user|>": 300})
    with pytest.raises(InputError, match=r"'<\|user\|>' has id 300 in the file, but 264 in trans"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("lines", ["t h\nth e\n", "#version: 0.2\nt h\nth e"])
def test_a_merge_that_transformers_would_leave_out_is_refused(tmp_path: Path, lines: str) -> None:
    small_vocabulary(tmp_path)
    (tmp_path / "merges.txt").write_text(lines)
    with pytest.raises(InputError, match="transformers would leave it out"):
        Tokenizer.load(tmp_path)


def test_without_an_end_texts_are_encoded_and_what_needs_one_says_so(tmp_path: Path) -> None:
    of_class("PreTrainedTokenizerFast")(tmp_path)
    ours = Tokenizer.load(tmp_path)
    assert ours.bos is ours.eos is ours.pad is ours.unk is None
    assert ours.encode("the") == [257]
    with pytest.raises(InputError, match="no end-of-text token: eos_token in tokenizer_config"):
        _ = ours.end


@pytest.mark.parametrize("pad", [None, "<pad>"])
def test_a_classifier_pads_with_the_end_only_where_nothing_pads(
    tmp_path: Path, pad: str | None
) -> None:
    tokenizer = fast(tmp_path / "made")
    if pad:
        tokenizer.add_special_tokens({"pad_token": pad})
        tokenizer.save_pretrained(tmp_path / "made")
    Tokenizer.load(tmp_path / "made").save(tmp_path / "saved", pads=True)
    change(tmp_path / "saved/config.json", model_type="gpt2")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").pad_token == (pad or END)


def test_every_template_of_chats_goes_along(tmp_path: Path) -> None:
    tokenizer = fast(tmp_path / "made")
    tokenizer.chat_template = {"default": "{{ 1 }}", "tool": "{{ 2 }}"}
    tokenizer.save_pretrained(tmp_path / "made")
    Tokenizer.load(tmp_path / "made").save(tmp_path / "saved")
    change(tmp_path / "saved/config.json", model_type="gpt2")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").chat_template == {
        "default": "{{ 1 }}", "tool": "{{ 2 }}",
    }  # fmt: skip


def test_a_stream_of_text_has_what_is_put_around_each_document(tmp_path: Path) -> None:
    fast(tmp_path / "made")
    change(tmp_path / "made/tokenizer.json", post_processor=AROUND)
    ours = Tokenizer.load(tmp_path / "made")
    (tmp_path / "texts").mkdir()
    for name, text in (("a", "the cat"), ("b", " the")):
        (tmp_path / "texts" / name).write_text(text)
    source = Source.open(str(tmp_path / "texts"))
    # The end is not put after a document that the tokenizer ends with it.
    found = stream(source, ours).tolist()
    assert found == [65, 257, 260, 263, 65, 220, 257, 263]
    change(tmp_path / "made/tokenizer.json", post_processor=TEMPLATE)
    found = stream(source, Tokenizer.load(tmp_path / "made")).tolist()
    assert found == [263, 257, 260, 263, 263, 220, 257, 263]


def test_each_key_of_each_file_has_a_fate(tmp_path: Path) -> None:
    slow(add_bos_token=True, chat_template="{{ 1 }}", model_max_length=9)(tmp_path)
    fast(tmp_path)
    change(tmp_path / "tokenizer_config.json", whatever=1)
    weights = tmp_path / "pytorch_model.bin"
    weights.touch()
    files = fates_of(CheckpointLocation(path=tmp_path, files=(weights,)))
    unknown = [str(key) for file in files for key in file.keys if key.fate == "unknown"]
    assert [line.partition(" = ")[0] for line in unknown] == ["tokenizer_config.json: whatever"]
    assert {file.path.name for file in files if file.keys} == {
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json",
        "config.json",
    }  # fmt: skip


# What decides, byte by byte: a digest stands for all of it.


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("bases")
    chosen = ["slow, with added tokens", "a token before each text", "special tokens of old files"]
    for i, name in enumerate(chosen):
        ROWS[name](place / str(i))
    fast(place / "plain")
    return sorted(path for path in place.iterdir() if path.is_dir())


def _same(one: Tokenizer, other: Tokenizer) -> bool:
    ids = list(range(max(len(one), len(other))))
    skipped = [tokenizer.decode(ids, skip_special=True) for tokenizer in (one, other)]
    return (
        skipped[0] == skipped[1]
        and one.decode(ids) == other.decode(ids)
        and one.encode_batch(SAMPLES) == other.encode_batch(SAMPLES)
        and one.encode_cut(SAMPLES, 2) == other.encode_cut(SAMPLES, 2)
        and (one.eos, one.filler) == (other.eos, other.filler)
    )


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_byte_of_a_file_changes_the_digest_does_too_or_nothing_does(
    bases: list[Path], data: st.DataObject
) -> None:
    base = data.draw(st.sampled_from(bases), "base")
    files = sorted(path.name for path in base.iterdir() if path.name != "config.json")
    name = data.draw(st.sampled_from(files), "file")
    content = bytearray((base / name).read_bytes())
    # What is not the vocabulary stands at the ends.
    at = data.draw(st.integers(0, len(content) - 1) | st.integers(-900, -1), "place")
    at = max(at, -len(content))
    content[at] = data.draw(st.sampled_from(b'0123456789abhtT"{}[]:, <>|'), "byte")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "changed"
        shutil.copytree(base, folder)
        (folder / name).write_bytes(content)
        try:
            changed = Tokenizer.load(folder)
        except SpecError:
            return
        before = Tokenizer.load(base)
        if changed.digest == before.digest:
            assert _same(changed, before)


@pytest.mark.parametrize(
    "keys",
    [
        {"add_prefix_space": True},
        {"clean_up_tokenization_spaces": True},
        {"split_special_tokens": True},
        {"truncation_side": "left"},
        {"eos_token": "a"},
        {"pad_token": "a"},
        {"bos_token": "a"},
        {"additional_special_tokens": ["th"]},
        {"extra_special_tokens": {"image_token": "th"}},
    ],
)
def test_two_tokenizers_that_differ_in_a_flag_have_two_digests(
    tmp_path: Path, keys: dict[str, Any]
) -> None:
    fast(tmp_path)
    before = Tokenizer.load(tmp_path)
    change(tmp_path / "tokenizer_config.json", **keys)
    assert Tokenizer.load(tmp_path).digest != before.digest


@given(st.lists(st.text(" .'ntmsver!?a,", max_size=6), max_size=6))
def test_text_that_is_cleaned_as_it_comes_is_the_whole_text_cleaned(pieces: list[str]) -> None:
    cleaning = CleanedText()
    found = "".join(map(cleaning.add, pieces)) + cleaning.rest()
    assert found == cleaned("".join(pieces))
    assert found == GPT2Tokenizer.clean_up_tokenization("".join(pieces))
