"""Log-probabilities of given texts; transformers' logits are the judge, windows lm-eval's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gpt2dsl import Generation, InputError
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.engine.likelihood import windows
from tests.judges import TINY, hugging_face, random_weights

CONTEXTS = ["the old cat", "the old cat sat on the mat", "a bird", "the old cat sat on the mat", ""]
CONTINUATIONS = [" sat on the mat and then ran", " and sang", " sang", " under the tree", "the dog"]


@pytest.fixture(scope="module")
def judge() -> Any:
    return hugging_face(TINY, random_weights(TINY))


def judged(judge: Any, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """Score a continuation with transformers, as lm-eval's ``hf`` class does."""
    ids = [*context, *continuation][-TINY.positions - 1 :][:-1]
    with torch.no_grad():
        logits = judge(torch.tensor([ids])).logits[0, -len(continuation) :]
    wanted = torch.tensor(continuation)
    logs = torch.log_softmax(logits, -1).gather(1, wanted[:, None])
    return float(logs.sum()), bool((logits.argmax(-1) == wanted).all())


def test_likelihoods_are_those_of_transformers(lm: LanguageModel, judge: Any) -> None:
    found = lm.loglikelihood(CONTEXTS, CONTINUATIONS)
    for context, continuation, (logprob, is_greedy) in zip(
        CONTEXTS, CONTINUATIONS, found, strict=True
    ):
        before = lm.tokenizer.encode(context)
        after = lm.tokenizer.encode(context + continuation)[len(before) :]
        expected, greedy = judged(judge, before or [lm.tokenizer.start], after)
        assert logprob == pytest.approx(expected, abs=1e-3)
        assert is_greedy == greedy


def test_each_pair_is_scored_as_if_it_were_alone(lm: LanguageModel) -> None:
    together = lm.loglikelihood(CONTEXTS, CONTINUATIONS)
    alone = [lm.loglikelihood(one, two) for one, two in zip(CONTEXTS, CONTINUATIONS, strict=True)]
    assert together == alone


def test_the_greedy_continuation_is_greedy(lm: LanguageModel) -> None:
    (continuation,) = lm.continuations([[5, 6, 7]], Generation(max_new_tokens=4))
    assert lm.loglikelihood([5, 6, 7], continuation.ids).is_greedy
    other = [*continuation.ids[:-1], (continuation.ids[-1] + 1) % TINY.vocab]
    assert not lm.loglikelihood([5, 6, 7], other).is_greedy


def test_spaces_after_a_context_are_the_continuations(lm: LanguageModel) -> None:
    assert lm.loglikelihood("the old ", "cat") == lm.loglikelihood("the old", " cat")
    assert lm.loglikelihood("  ", "cat") == lm.loglikelihood("", "  cat")


def test_a_long_context_loses_its_beginning(lm: LanguageModel, judge: Any) -> None:
    context, continuation = [i % 300 for i in range(200)], [7, 9, 11]
    expected, _ = judged(judge, context, continuation)
    found = lm.loglikelihood(context, continuation)
    assert found.logprob == pytest.approx(expected, abs=1e-3)
    assert found == lm.loglikelihood(context[-80:], continuation)


def test_a_whole_text_is_scored_in_windows(lm: LanguageModel, judge: Any) -> None:
    for count in (1, 79, 80, 81, 200):
        ids = [(i * i) % 300 for i in range(count)]
        expected = sum(
            judged(judge, list(context), list(continuation))[0]
            for context, continuation in windows(ids, lm.tokenizer.start, TINY.positions)
        )
        assert lm.loglikelihood_rolling(ids) == pytest.approx(expected, abs=1e-3)
    texts = ["the old cat", "", "a bird"]
    assert lm.loglikelihood_rolling(texts) == [lm.loglikelihood_rolling(one) for one in texts]
    assert lm.loglikelihood_rolling("") == 0


@pytest.mark.parametrize("count", range(23))
def test_windows_are_those_of_lm_eval(count: int) -> None:
    ids, begin, most = list(range(1, count + 1)), 0, 5
    found = list(windows(ids, begin, most))
    assert [i for _, continuation in found for i in continuation] == ids
    expected: list[tuple[list[int], list[int]]] = []
    if ids:
        # as lm_eval.utils.get_rolling_token_windows and make_disjoint_window define them
        expected.append(([begin], ids[:most]))
    for start in range(most, count, most):
        end = min(start + most, count)
        expected.append((ids[end - most - 1 : start], ids[start:end]))
    assert found == expected


def test_numpys_ids_are_ids_and_lists_must_match(lm: LanguageModel) -> None:
    ids: Any = np.array([1, 2])
    assert lm.loglikelihood(ids, ids[:1]) == lm.loglikelihood([1, 2], [1])
    none: list[str] = []
    assert len(lm.loglikelihood(none, none)) == 0
    with pytest.raises(ValueError, match="as many contexts as continuations, found 2 and 1"):
        lm.loglikelihood(["a", "b"], ["c"])
    with pytest.raises(ValueError, match="a context and a continuation, or a list of each"):
        lm.loglikelihood("a", ["b"])
    with pytest.raises(InputError, match="it has 81 tokens; 80 fit"):
        lm.loglikelihood("a", [1] * 81)
    with pytest.raises(InputError, match="301 is no id"):
        lm.loglikelihood([301], [1])
