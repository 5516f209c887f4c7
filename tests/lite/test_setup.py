"""Setting Lite up where something is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gpt2dsl.errors import InputError, RunError
from gpt2dsl.lite import setup


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2DSL_CACHE", str(tmp_path / "cache"))


def test_no_python_is_told_with_what_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"neither on PATH nor under ~/\.pyenv; --python PATH"):
        setup.set_up()
    with pytest.raises(InputError, match="there is no such Python"):
        setup.set_up(str(tmp_path / "python3.7"))
    assert not setup.environment().exists()


def test_another_python_is_refused() -> None:
    found = ".".join(map(str, sys.version_info[:2]))
    with pytest.raises(InputError, match=f"expected Python 3.7, found {found}"):
        setup.set_up(sys.executable)


def test_no_network_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        setup._python("")
    except InputError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(RunError, match=r"mindspore-lite 2\.0\.0 can't be installed: ERROR"):
        setup.set_up()
    assert not setup.environment().exists()
    assert setup.find() is None
    with pytest.raises(InputError, match=r"nor set up beside it: gpt2dsl lite setup \[G2-531\]"):
        setup.require()


def test_an_environment_that_was_not_finished_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    python = setup.environment() / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert setup.find() is None
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(InputError, match="--python PATH names one"):
        setup.set_up()
