"""optimum loads what `gpt2dsl export` wrote, and generates transformers' texts with it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import attrs
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.lite.onnx_readme import PROMPTS
from gpt2dsl.weights.formats import huggingface
from tests.engine.conftest import text
from tests.engine.layouts import write_weights
from tests.judges import TINY, random_weights
from tests.lite.readmes import export, greedy, output

ROOT = Path(__file__).parents[2]
PYTHON = str(ROOT / ".optimum/bin/python")
INSIDE = Path(__file__).parent / "inside.py"

pytestmark = [
    pytest.mark.judges,
    pytest.mark.skipif(not Path(PYTHON).exists(), reason="make judges makes the environment"),
]

TEXTS = ["the old cat", "a bird sang", "the", "under the tree and over the old mat"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(
        tmp_path_factory.mktemp("optimum") / "weights", tied=False, scale_by_layer=True
    )


@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no-cache"])
def test_the_example_of_the_readme_gives_transformers_texts(
    weights: Path, tmp_path: Path, *, cache: bool
) -> None:
    folder = export(weights, tmp_path / "there", cache=cache)
    assert output(folder, "optimum", PYTHON) == greedy(weights, list(PROMPTS), 20)


def test_a_padded_batch_gives_transformers_texts_greedy_bound_and_by_beams(
    weights: Path, tmp_path: Path
) -> None:
    folder = export(weights, tmp_path / "there")
    done = subprocess.run(
        [PYTHON, str(INSIDE), str(folder), *TEXTS],
        env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = AutoModelForCausalLM.from_pretrained(weights, attn_implementation="eager")

    def expected(prompt: str, beams: int) -> str:
        ids = torch.tensor([tokenizer.encode(prompt)])
        tokens = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=20,
            do_sample=False,
            num_beams=beams,
            pad_token_id=0,
        )
        return str(tokenizer.decode(tokens[0], skip_special_tokens=True))

    assert found["greedy"] == found["binding"] == [expected(prompt, 1) for prompt in TEXTS]
    assert found["beams"] == [expected(prompt, 3) for prompt in TEXTS]
    assert "warning" not in done.stderr.lower()


def test_a_classifier_gives_the_classes_of_transformers(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train([text(400)], 320)
    geometry = attrs.evolve(TINY, inner=0, vocab=len(tokenizer), labels=3)
    folder = tmp_path / "weights"
    folder.mkdir()
    names = ("bad", "middling", "good")
    huggingface.write(folder, geometry, random_weights(geometry), tokenizer, names)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    scores = (model(torch.tensor([tokenizer.encode(prompt)])).logits[0] for prompt in PROMPTS)
    expected = [names[int(row.argmax())] for row in scores]
    assert output(export(folder, tmp_path / "there"), "optimum", PYTHON) == expected
