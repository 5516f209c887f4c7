from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt2dsl import Generation, Model, Recipe, SpecError, Task, Train
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.parts import Part
from gpt2dsl.weights import store
from gpt2dsl.weights.formats import huggingface
from tests.judges import TINY, random_weights

BASE = Model(size="124m") | Task.generate(prompts=["a"])


@pytest.mark.parametrize(
    ("generation", "notes"),
    [
        (Generation(), ()),
        (Generation(top_k=5), ("generation.top_k changes nothing without do_sample",)),
        (Generation(top_k=5, do_sample=True), ()),
        (
            Generation(length_penalty=2.0),
            ("generation.length_penalty changes nothing without beams",),
        ),
        (Generation(length_penalty=2.0, beams=2), ()),
    ],
)
def test_the_plan_notes_values_that_change_nothing(
    generation: Generation, notes: tuple[str, ...]
) -> None:
    assert (BASE | generation).plan().notes == notes


def test_values_that_do_not_go_together_are_faults_of_the_plan() -> None:
    with pytest.raises(SpecError, match="there are only 2 beams"):
        (BASE | Generation(beams=2, num_return_sequences=3)).plan()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder whose files say how text is generated."""
    with store.writing(tmp_path / "m", {}, {}) as folder:
        tokenizer = Tokenizer.train(["the old cat " * 9], TINY.vocab)
        huggingface.write(folder, TINY, random_weights(TINY), tokenizer)
    content = {"eos_token_id": 6, "do_sample": True, "temperature": 0.5, "num_beams": 2}
    (tmp_path / "m" / store.MANIFEST).unlink()
    (tmp_path / "m" / "generation_config.json").write_text(json.dumps(content, indent=2))
    return tmp_path / "m"


def recipe(weights: Path, *parts: Part) -> Recipe:
    return Recipe(Model(weights=str(weights)), Task.generate(prompts=["the"]), *parts)


def test_a_plan_says_the_line_of_what_the_weights_decide(weights: Path) -> None:
    plan = recipe(weights, Generation(beams=1)).plan()
    rows = {key: (value, origin) for key, value, origin in plan.why()}
    assert rows["generation.temperature"] == (0.5, "generation_config.json:4")
    assert rows["generation.eos"] == ((6,), "generation_config.json:2")
    assert rows["generation.beams"][0] == 1
    assert "test_generation.py" in rows["generation.beams"][1]
    assert rows["generation.top_p"] == (1.0, "default")
    lines = (weights / "config.json").read_text().split("\n")
    number = 1 + next(i for i, line in enumerate(lines) if '"resid_pdrop"' in line)
    assert rows["model.dropout"][1] == f"config.json:{number}"
    assert rows["model.layers"][0] == TINY.layers
    assert rows["model.layers"][1].startswith("config.json:")


def test_a_recipe_keeps_its_digest_whatever_its_weights_say(weights: Path) -> None:
    one = recipe(weights)
    digest = one.plan().digest
    (weights / "generation_config.json").unlink()
    assert one.plan().digest == digest == one.digest


def test_what_the_weights_ask_for_and_can_not_be_had_stops_texts_and_no_training(
    weights: Path,
) -> None:
    file = weights / "generation_config.json"
    file.write_text('{"max_time": 3.0, "temperature": 0.0, "do_sample": true}')
    with pytest.raises(SpecError) as caught:
        recipe(weights).plan()
    keys = sorted(Path(fault.key).name for fault in caught.value.faults)
    assert keys == ["generation.temperature", "generation_config.json"]
    assert "max_time is 3.0: a limit of time is not built" in str(caught.value)
    training = Recipe(
        Model(weights=str(weights)), Task.finetune(data="sample:train"), Train(seq_length=32)
    )
    assert training.plan().task == "finetune"


def test_notes_tell_ends_that_can_not_come(weights: Path) -> None:
    (weights / "generation_config.json").write_text('{"eos_token_id": 50256}')
    (note,) = recipe(weights).plan().notes
    assert note == ("generation_config.json:1: eos_token_id 50256 ends no text: there are 301 ids")
    assert not recipe(weights, Generation(eos=[6])).plan().notes
