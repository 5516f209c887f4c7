"""The field's clients, unchanged, against a served model: ``make judges``."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import gpt2dsl
from gpt2dsl.engine.language_model import LanguageModel
from tests.serve.conftest import Server
from tests.vocabularies import random_model, vocabulary

ROOT = Path(__file__).parents[2]
EXAMPLES = 400
"""Of each of the five operations that take something, beside those for each key."""

BIN = ROOT / ".clients" / "bin"
HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.judges,
    pytest.mark.skipif(not BIN.exists(), reason="make judges makes the environment"),
]

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def saved(folder: Path, positions: int) -> Path:
    """A model with random weights, and a template for chats."""
    tokenizer = vocabulary(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    random_model(len(tokenizer), n_positions=positions).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("clients"), 256)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    own = Server(folder, "--max-stops", "8")
    yield own
    assert own.stop() == 0, "".join(own.lines)


@pytest.fixture(scope="module")
def lm(folder: Path) -> LanguageModel:
    return gpt2dsl.load(str(folder))


def told(client: str, server: Server, folder: Path, result: Path) -> Any:
    """What a client was told."""
    words = [str(BIN / "python"), str(HERE / "inside.py"), client, server.url]
    words += [str(folder), str(result)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(result.read_text("utf-8"))


@pytest.mark.parametrize("client", ["openai", "litellm", "langchain", "llamaindex"])
def test_clients_get_the_texts_of_the_library(
    client: str, server: Server, folder: Path, lm: LanguageModel, tmp_path: Path
) -> None:
    chat = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [{"role": "user", "content": "the cat"}], tokenize=False, add_generation_prompt=True
    )
    texts = {}
    for prompt in ("the cat", chat):
        texts[prompt] = lm.generate([prompt], max_new_tokens=6)[0].removeprefix(prompt)
    assert told(client, server, folder, tmp_path / "told.json") == {
        "completion": texts["the cat"],
        "stream": texts["the cat"],
        "chat": texts[chat],
        "chat stream": texts[chat],
    }


def test_lm_eval_scores_a_served_model_as_its_own_class_does(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    result = told("lm_eval", server, folder, tmp_path / "told.json")
    served, judge = result["served"], result["judge"]
    for (own, own_greedy), (theirs, greedy) in zip(
        served["loglikelihood"], judge["loglikelihood"], strict=True
    ):
        assert own == pytest.approx(theirs, abs=1e-3)
        assert own_greedy == greedy
    assert served["loglikelihood_rolling"] == pytest.approx(
        judge["loglikelihood_rolling"], rel=1e-5, abs=1e-3
    )
    assert served["generate_until"] == judge["generate_until"]


@pytest.mark.timeout(3600)
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """Few positions and places, as texts often take all that there are."""
    own = Server(saved(tmp_path / "weights", 64), "--batch", "4", "--queue", "4")
    words = [
        str(BIN / "schemathesis"), "run", f"{own.url.removesuffix('/v1')}/openapi.json",
        "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful",
        "--max-examples", str(EXAMPLES), "--max-response-time", "600", "--request-timeout", "600",
    ]  # fmt: skip
    env = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) generated, \1 passed", done.stdout)[0]) >= 2000
    (covered,) = re.findall(r"API Links: +(\d+) covered / \1 selected / \1 total", done.stdout)
    assert int(covered) == 6
    assert own.stop() == 0, "".join(own.lines)
