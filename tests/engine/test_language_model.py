from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2dsl
from gpt2dsl import Generation, InputError, SpecError
from gpt2dsl.engine.job import Result
from gpt2dsl.engine.language_model import LanguageModel
from tests.cli.test_cli import run
from tests.judges import TINY


def test_ragged_prompts_in_a_batch_give_what_each_gives_alone(lm: LanguageModel) -> None:
    prompts = ["the", "the old cat sat on", "", "a bird"]
    together = lm.generate(prompts, max_new_tokens=12)
    assert together == [lm.generate([prompt], max_new_tokens=12)[0] for prompt in prompts]


def test_generation_is_the_prompt_and_what_follows(lm: LanguageModel) -> None:
    (found,) = lm.generate(["the old cat"], max_new_tokens=5)
    assert found.startswith("the old cat")
    assert len(found) > len("the old cat")


def test_sampling_repeats_with_its_seed(lm: LanguageModel) -> None:
    def drawn(seed: int) -> list[str]:
        return lm.generate(["the"], max_new_tokens=16, do_sample=True, seed=seed)

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_generation_stops_where_the_positions_end(lm: LanguageModel) -> None:
    prompt = "the old cat sat on the mat " * 3
    (found,) = lm.continuations([prompt], Generation(max_new_tokens=500))
    assert len(lm.tokenizer.encode(prompt)) + found.tokens == TINY.positions


def test_a_prompt_past_the_positions_is_one_clear_line(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match=r"the prompt has .* tokens; with one to generate 79 fit"):
        lm.generate(["the old cat sat on the mat " * 40])


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 2], "expected integers [batch, time]"),
        ([[1.0]], "expected integers [batch, time]"),
        ([[301]], "expected ids from 0 to 300"),
        ([[-1]], "expected ids from 0 to 300"),
        ([[0] * 81], "expected at most 80 tokens"),
        ([[]], "expected integers [batch, time]"),
    ],
)
def test_logits_refuse_what_are_no_ids(lm: LanguageModel, ids: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected.replace("[", r"\[")):
        lm.logits(ids)


def test_logits_have_the_shape_and_type_of_the_contract(lm: LanguageModel) -> None:
    found = lm.logits(np.zeros((2, 5), np.int32))
    assert found.shape == (2, 5, TINY.vocab)
    assert found.dtype == np.float32


def test_wrong_settings_are_refused(lm: LanguageModel) -> None:
    with pytest.raises(SpecError, match="did you mean max_new_tokens"):
        lm.generate(["a"], max_new_token=3)


def test_a_text_gives_a_text_and_a_list_a_list(lm: LanguageModel) -> None:
    text = lm.generate("the old", max_new_tokens=4)
    assert [text] == lm.generate(["the old"], max_new_tokens=4)
    with pytest.raises(ValueError, match="several continuations come for a list"):
        lm.generate("the", num_return_sequences=2, do_sample=True)
    with pytest.raises(TypeError, match="found int 5") as wrong:
        lm.generate(5)  # type: ignore[call-overload]
    assert isinstance(wrong.value, SpecError)  # IPython shows one line, no frames


def test_a_model_and_a_result_are_short_at_a_prompt(lm: LanguageModel, trained: Result) -> None:
    assert repr(lm).startswith("<LanguageModel: 2 layers, ")
    assert len(repr(lm)) < 120
    assert repr(trained).startswith("<Result of pretrain: loss ")
    assert str(trained.checkpoint) in repr(trained)
    assert "perplexity" in trained._repr_html_()


def test_the_command_line_generates_from_a_run(trained: Result, capsys: Any) -> None:
    words = ["--prompt", "the old", "--prompt", "a bird", "--max-new-tokens", "4", "--json"]
    assert run("generate", str(trained.directory), *words) == 0
    document = json.loads(capsys.readouterr().out)
    lm = gpt2dsl.load(str(trained.directory))
    assert document["texts"] == lm.generate(["the old", "a bird"], max_new_tokens=4)


@pytest.mark.parametrize("damage", ["empty", "truncated", "absent", "config"])
def test_weights_that_can_not_be_used_are_one_clear_line(
    trained: Result, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(str(trained.checkpoint), folder)
    (folder / "manifest.json").unlink()
    file = folder / "model.safetensors"
    if damage == "empty":
        file.write_bytes(b"")
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "absent":
        file.unlink()
    else:
        (folder / "config.json").write_text("{")
    with pytest.raises(InputError) as caught:
        gpt2dsl.load(str(folder))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
