from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import gpt2dsl
from tests.engine.layouts import write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("cli") / "weights")


def test_an_export_continues_texts_as_generate_does(weights: Path, tmp_path: Path) -> None:
    said = gpt2dsl("export", weights, tmp_path / "a", "--format", "onnx", "--seq-length", 32).stdout
    assert f"wrote       {tmp_path / 'a'}\n" in said
    assert "note        verified: in onnxruntime " in said
    words = ["--prompt", "the old cat", "--prompt", "a bird", "--max-new-tokens", 6]
    for more in ([], ["--stream"], ["--jsonl"], ["--do-sample", "--seed", 4]):
        expected = gpt2dsl("generate", weights, *words, *more).stdout
        assert gpt2dsl("lite", "run", tmp_path / "a", *words, *more).stdout == expected
    found = json.loads(gpt2dsl("lite", "run", tmp_path / "a", *words, "--json").stdout)
    assert [one["prompt"] for one in found["continuations"]] == ["the old cat", "a bird"]


def test_faults_are_one_line_each(weights: Path, tmp_path: Path) -> None:
    for words, said, code in (
        (["lite", "run", weights, "--prompt", "a"], "it is no export", 2),
        (["lite", "run", tmp_path / "none", "--prompt", "a"], "it is no export", 2),
        (["lite", "setup", "--python", tmp_path / "none"], "there is no such Python", 2),
        (["export", weights, tmp_path / "b", "--format", "ms"], "gpt2dsl lite setup", 2),
        (["export", weights, tmp_path / "b", "--seq-length", 99], "more than the model's 64", 2),
    ):
        done = gpt2dsl(*words, code=code)
        assert said in done.stderr
        assert done.stderr.strip().count("\n") == 0
    assert not (tmp_path / "b").exists()
