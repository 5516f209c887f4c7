from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from gpt2dsl.engine.scores import ClassificationMetrics

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(PAIRS)
def test_every_score_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, said = np.array(pairs).T
    scores = ClassificationMetrics.of("abcd", true, said, 0.0)
    labels = list(range(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that do not occur
        expected = metrics.precision_recall_fscore_support(
            true, said, labels=labels, zero_division=0
        )
        matthews = metrics.matthews_corrcoef(true, said)
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(true, said))
    assert scores.matthews == pytest.approx(matthews)
    for i in labels:
        own = scores.of_class(i)
        found = [own[name] for name in ("precision", "recall", "f1", "rows")]
        assert found == pytest.approx([part[i] for part in expected])
    matrix = metrics.confusion_matrix(true, said, labels=labels)
    assert np.array_equal(np.array(scores.confusion), matrix)
