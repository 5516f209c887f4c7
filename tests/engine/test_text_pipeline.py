from __future__ import annotations

import pytest

import gpt2dsl
from gpt2dsl import SpecError
from gpt2dsl.engine.job import Result


def test_a_pipeline_gives_texts_under_the_cards_key(trained: Result) -> None:
    lm = gpt2dsl.load(str(trained.directory))
    pipe = gpt2dsl.pipeline("text_generation", lm, max_length=9)
    assert pipe("the old") == [{"text_generation_text": lm.generate(["the old"], max_length=9)}]
    two = pipe(["the", "a bird"], max_new_tokens=3)
    expected = lm.generate(["the", "a bird"], max_new_tokens=3)
    assert two == [{"text_generation_text": [one]} for one in expected]
    both = pipe("the", do_sample=True, num_return_sequences=2)
    assert len(both[0]["text_generation_text"]) == 2


def test_a_pipeline_of_weights_refuses_what_it_does_not_know(trained: Result) -> None:
    with pytest.raises(ValueError, match="expected text_generation, found 'translation'"):
        gpt2dsl.pipeline("translation", str(trained.directory))
    with pytest.raises(SpecError, match="did you mean max_length"):
        gpt2dsl.pipeline("text_generation", str(trained.directory), max_lenght=3)
