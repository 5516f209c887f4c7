"""Errors carry their codes as fields; their texts get them in one place."""

from __future__ import annotations

import ast
import importlib
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt2dsl import errors
from gpt2dsl.cli.main import cli
from gpt2dsl.errors import CODES, Fault, FileError, Gpt2DslError, InputError, RunError, SpecError

PACKAGE = Path(errors.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def subclasses(kind: type[Gpt2DslError]) -> Iterator[type[Gpt2DslError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def defined() -> dict[str, type[Gpt2DslError]]:
    """Name → class of every error of the package, wherever it is defined."""
    for file in FILES:
        if re.search(
            r"^class \w+\((\w+Error|Interrupted)\)", file.read_text("utf-8"), re.MULTILINE
        ):
            importlib.import_module(
                ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
            )
    return {
        kind.__name__: kind for kind in subclasses(Gpt2DslError) if "gpt2dsl" in kind.__module__
    }


ERRORS = defined()


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of an error's class, with the class's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in ERRORS:
                yield name, node


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string, also of those with values in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_every_error_carries_a_code(name: str) -> None:
    kind = ERRORS[name]
    if issubclass(kind, RunError):
        error: Gpt2DslError = kind("G2-403", "a.bin: full")
        assert pickle.loads(pickle.dumps(error)).code == "G2-403"  # noqa: S301  # ours
    elif issubclass(kind, InputError):
        error = kind("G2-403", "a.bin", "full")
    elif issubclass(kind, (TypeError, ValueError)):
        assert issubclass(kind, SpecError)
        assert kind("full").code in CODES
        return
    else:
        assert issubclass(kind, SpecError)
        error = kind([Fault("G2-403", "", "a.bin", "full")])
    assert error.code == "G2-403"
    assert str(error) == f"a.bin: full{'' if name == 'Interrupted' else ' [G2-403]'}"


def test_a_hint_follows_the_code_on_its_own_line() -> None:
    error = RunError("G2-501", "rank 1: killed", "go on with: gpt2dsl run a.toml")
    assert str(error) == "rank 1: killed [G2-501]\ngo on with: gpt2dsl run a.toml"


def test_a_spec_error_has_the_code_of_its_first_fault() -> None:
    later, first = Fault("G2-202", "a.toml:9", "x", "no"), Fault("G2-101", "a.toml:2", "y", "no")
    error = SpecError([later, first])
    assert error.code == "G2-101"
    assert [fault.code for fault in error.faults] == ["G2-101", "G2-202"]


def test_every_raise_of_a_run_error_names_a_code_of_the_table() -> None:
    seen = []
    for file in FILES:
        for name, call in calls(ast.parse(file.read_text("utf-8"))):
            if not issubclass(ERRORS[name], RunError):
                continue
            place = f"{file.relative_to(PACKAGE)}:{call.lineno}"
            code = call.args[0]
            if isinstance(code, ast.Attribute):  # the code of another error
                assert code.attr == "code", place
            else:
                assert isinstance(code, ast.Constant), place
                assert code.value in CODES, place
            seen.append(place)
    assert len(seen) > 40


def test_no_message_has_a_code_typed_into_it() -> None:
    typed = [
        f"{file.relative_to(PACKAGE)}:{line}"
        for file in FILES
        for line, text in texts(ast.parse(file.read_text("utf-8")))
        if re.search(r"\[G2-\d+\]", text)
    ]
    assert typed == []


def test_every_code_that_the_package_names_is_in_the_table() -> None:
    named = {
        text
        for file in FILES
        for _, text in texts(ast.parse(file.read_text("utf-8")))
        if re.fullmatch(r"G2-\d+", text)
    }
    assert named == set(CODES)


def test_an_error_of_the_operating_system_says_what_it_was_about() -> None:
    full = OSError(28, "No space left on device")
    assert str(FileError.unwritable("a.bin", full)) == (
        "a.bin: it can't be written: No space left on device [G2-403]"
    )
    assert (
        str(FileError.unreadable("a.bin", OSError(0, "")))[:31] == "a.bin: it can't be read: [Errno"
    )


def test_every_exit_code_is_told_wherever_they_are_listed() -> None:
    texts = [Path(name).read_text() for name in ("README.md", "README.zh.md", "docs/errors.md")]
    codes = {"0"} | {str(kind.exit_code) for kind in subclasses(Gpt2DslError)}
    for text in (*texts, cli.help or ""):
        (listed,) = re.findall(
            r"(?:[Ee]xit codes?(?: is|:)|退出码：)(.*?directory|.*?目录)", text, re.DOTALL
        )
        assert set(re.findall(r"\b\d\b", listed)) == codes
