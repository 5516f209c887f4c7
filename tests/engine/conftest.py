from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl import Data, Generation, Model, Optim, Recipe, Runtime, Schedule, Task, Train
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.job import Result
from gpt2dsl.engine.language_model import LanguageModel, network_of
from tests.judges import TINY, random_weights

WORDS = (
    "the", "a", "old", "young", "cat", "dog", "bird", "sat", "ran", "sang", "on", "under", "over",
    "mat", "tree", "roof", "and", "then",
)  # fmt: skip


def text(sentences: int, start: int = 0) -> str:
    """Sentences over a few words; no two calls with other starts give the same."""
    lines = [
        " ".join(WORDS[(i * k + k * k + i // 7) % len(WORDS)] for k in range(3, 11))
        for i in range(start, start + sentences)
    ]
    return ".\n".join(lines) + ".\n"


def small_recipe(folder: Path) -> Recipe:
    """A recipe that trains in seconds, with everything on that a real one has."""
    data, held_out = folder / "train.txt", folder / "valid.txt"
    data.write_text(text(400), encoding="utf-8")
    held_out.write_text(text(40, start=1000), encoding="utf-8")
    return (
        Model(size="nano", layers=2, heads=2, hidden=32, positions=64, dropout=0.1)
        | Data(tokenizer="train", vocab=320)
        | Train(batch_size=4, seq_length=32, steps=12, save_every=5, evaluate_every=6)
        | Optim(lr=3e-3)
        | Schedule(kind="cosine", warmup=0.1, end=1e-4)
        | Generation(max_new_tokens=8)
        | Runtime(output=str(folder / "runs"))
        | Task.pretrain(data=str(data), eval_data=str(held_out))
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="session")
def recipe(folder: Path) -> Recipe:
    return small_recipe(folder)


@pytest.fixture(scope="session")
def trained(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The small recipe, run once a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT2DSL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return recipe.plan().run()


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """With one entry for each of the network's, so that both choose among the same."""
    found = Tokenizer.train([text(400)], TINY.vocab)
    assert len(found) == TINY.vocab
    return found


@pytest.fixture(scope="session")
def lm(tokenizer: Tokenizer) -> LanguageModel:
    return LanguageModel(network_of(TINY, random_weights(TINY), "cpu"), tokenizer)
