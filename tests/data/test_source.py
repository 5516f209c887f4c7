from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.data import digests
from gpt2dsl.data import source as module
from gpt2dsl.data.form import DataFormat
from gpt2dsl.data.source import Source
from gpt2dsl.errors import InputError


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())


def test_a_folder_is_its_files_by_name_without_hidden_and_empty_ones(tmp_path: Path) -> None:
    files = {"b.txt": "b", "a": "a", "sub/c.md": "c", ".hidden": "x", ".git/d": "x", "e.txt": ""}
    _write(tmp_path, files)
    assert list(Source.open(str(tmp_path)).documents()) == ["a", "b", "c"]


def test_a_glob_is_the_files_that_match(tmp_path: Path) -> None:
    _write(tmp_path, {"b.txt": "b", "a.txt": "a", "c.md": "c", "d.txt/e": "x"})
    assert list(Source.open(str(tmp_path / "*.txt")).documents()) == ["a", "b"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    _write(tmp_path, {"a[1].txt": "one", "a1.txt": "glob"})
    assert list(Source.open(str(tmp_path / "a[1].txt")).documents()) == ["one"]


def test_the_samples_are_the_same_novel_everywhere_divided_by_chapters() -> None:
    train, valid = Source.open("sample:train"), Source.open("sample:valid")
    assert [text.splitlines()[0] for text in valid.documents()] == [
        f"Chapter {number}" for number in range(10, 61, 10)
    ]
    assert len(list(train.documents())) == 55
    assert train.digest().startswith("aa941e73")
    assert valid.digest().startswith("e98d50be")
    assert not set(train.documents()) & set(valid.documents())
    assert 0.03 < valid.size / (train.size + valid.size) < 0.2
    assert train.digest() == Source.open("sample:train").known_digest() != valid.digest()


@pytest.mark.parametrize(
    "name", ["nowhere", "", "sample:test", "no/*.txt", "a\0b", "~nobody-of-that-name/x"]
)
def test_absent_is_none_to_a_plan_and_an_error_to_a_run(name: str) -> None:
    assert Source.find(name) is None
    with pytest.raises(InputError, match="G2-301"):
        Source.open(name)


def test_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="G2-302"):
        Source.find(str(tmp_path))
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match="G2-302"):
        Source.find(str(tmp_path / "a.txt"))


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"neither a file nor a folder.*G2-304"):
        Source.find(str(tmp_path / "pipe"))


def test_a_name_too_long_for_a_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"File name too long.*G2-304"):
        Source.find("x" * 5000)


def test_a_file_that_can_not_be_read_is_refused() -> None:
    broken = Source("mem", (module.File(Path("/proc/self/mem"), 1, 1),))
    with pytest.raises(InputError, match=r"/proc/self/mem: it can't be read: .*G2-304"):
        list(broken.documents())
    with pytest.raises(InputError, match="G2-304"):
        broken.digest()


@pytest.mark.parametrize("block", [1, 2, 3, 7, 2**20])
def test_what_is_not_utf8_is_named_by_byte_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    path = tmp_path / "a.txt"
    path.write_bytes("äö\n語\n x".encode() + b"\xe8\xaa.")
    with pytest.raises(InputError, match=r"byte 0xe8 at offset 11, line 3, is not UTF-8 \[G2-303"):
        list(Source.open(str(path)).documents())
    path.write_bytes("äö\n語".encode()[:-1])
    with pytest.raises(InputError, match="at offset 5, line 2"):
        list(Source.open(str(path)).documents())


def test_utf16_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("hello".encode("utf-16"))
    with pytest.raises(InputError, match="it looks like UTF-16"):
        list(Source.open(str(tmp_path)).documents())


@pytest.mark.parametrize(
    ("content", "packed"),
    [
        (gzip.compress(b"{}"), "gzip"),
        (b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xff", "zip"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd"),
    ],
)
def test_a_compressed_file_is_told_to_be_unpacked(
    tmp_path: Path, content: bytes, packed: str
) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(InputError, match=f"it is compressed with {packed}: unpack it, .*G2-303"):
        list(Source.open(str(tmp_path), DataFormat(format="jsonl")).documents())


@given(st.text(min_size=1), st.integers(1, 5), st.booleans())
def test_text_is_read_as_it_is_but_for_a_byte_order_mark(text: str, block: int, mark: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        data = ("\ufeff" if mark else "").encode() + text.encode()
        patch.setattr(
            module, "_read", lambda _: (data[i : i + block] for i in range(0, len(data), block))
        )
        expected = text if mark else text.removeprefix("\ufeff")
        found = list(Source("x", (module.File(Path("x"), 1, 1),)).documents())
    assert found == ([expected] if expected else [])


def test_the_digest_is_of_contents_and_order_and_not_of_names(tmp_path: Path) -> None:
    _write(tmp_path, {"one/a": "x", "one/b": "y", "two/c": "x", "two/d": "y", "three/a": "y"})
    _write(tmp_path, {"three/b": "x", "four": "xy"})
    one, two, three, four = (
        Source.open(str(tmp_path / name)).digest() for name in ("one", "two", "three", "four")
    )
    assert one == two
    assert len({one, three, four}) == 3
    assert four == hashlib.sha256(b"xy").hexdigest()


def test_the_digest_of_large_text_is_pending_until_it_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LARGE", 3)
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    (tmp_path / "a.txt").write_text("four")
    source = Source.open(str(tmp_path / "a.txt"))
    assert source.known_digest() is None
    assert source.digest() == source.known_digest() == hashlib.sha256(b"four").hexdigest()
    (tmp_path / "a.txt").write_text("five!")
    assert not source.unchanged
    assert Source.open(str(tmp_path / "a.txt")).known_digest() is None


def test_a_text_that_was_replaced_is_read_again_although_its_size_and_time_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LARGE", 3)
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    path = tmp_path / "a.txt"
    path.write_text("four")
    first, status = Source.open(str(path)).digest(), path.stat()
    path.write_text("five")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert Source.open(str(path)).digest() != first
    other = tmp_path / "b.txt"
    other.write_text("nine")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert Source.open(str(path)).digest() == hashlib.sha256(b"nine").hexdigest()


def test_the_digest_of_a_large_text_is_known_after_it_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LARGE", 3)
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    (tmp_path / "a.txt").write_text("four")
    os.link(tmp_path / "a.txt", tmp_path / "b.txt")
    digest = Source.open(str(tmp_path / "a.txt")).digest()
    assert Source.open(str(tmp_path / "b.txt")).known_digest() == digest


def test_the_digest_of_a_text_that_has_just_changed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LARGE", 3)
    (tmp_path / "a.txt").write_text("four")
    source = Source.open(str(tmp_path / "a.txt"))
    assert source.digest() == hashlib.sha256(b"four").hexdigest()
    assert source.known_digest() is None
