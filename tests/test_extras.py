from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import extras


class Installed:
    def __init__(self, direct_url: Any) -> None:
        self.direct_url = direct_url

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.direct_url and json.dumps(self.direct_url)


def installed(monkeypatch: pytest.MonkeyPatch, *direct_urls: Any) -> str:
    several = list(map(Installed, direct_urls))
    monkeypatch.setattr(metadata, "distributions", lambda **_: several)
    return extras.install("onnx")


@pytest.mark.parametrize("said", [None, {"url": "file:///a", "dir_info": {}}, {"url": "https://a"}])
def test_an_extra_of_a_copy_goes_by_name(monkeypatch: pytest.MonkeyPatch, said: Any) -> None:
    assert installed(monkeypatch, said) == "pip install 'gpt2dsl[onnx]'"
    assert installed(monkeypatch) == "pip install 'gpt2dsl[onnx]'"


def test_an_extra_of_an_editable_clone_is_the_clone_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clone = tmp_path / "a clone"
    clone.mkdir()
    said = {"url": clone.as_uri(), "dir_info": {"editable": True}}
    assert installed(monkeypatch, None, said) == f"pip install -e '{clone}[onnx]'"
    monkeypatch.chdir(clone)
    assert installed(monkeypatch, None, said) == "pip install -e '.[onnx]'"
