from __future__ import annotations

import attrs
import pytest

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.flops import model_flops
from gpt2dsl.parts.model import Model


def geometry(size: str, labels: int = 0) -> GPT2Config:
    return Model(size=size).geometry(vocab=50257, labels=labels)


def test_a_token_of_gpt2_takes_what_nanogpt_counts() -> None:
    """nanoGPT's estimate_mfu: 6 N + 12 L h t, where N leaves out the positions."""
    counted = model_flops(geometry("124m"), 1, 1024) / 1024
    theirs = 6 * (124_439_808 - 1024 * 768) + 12 * 12 * 768 * 1024
    assert counted == pytest.approx(theirs, rel=2e-3)  # which has biases and norms too


def test_flops_grow_with_the_rows_and_frozen_weights_take_a_third_less() -> None:
    config = geometry("124m")
    assert model_flops(config, 4, 256) == 4 * model_flops(config, 1, 256)
    attention = 256 * 12 * config.layers * config.hidden * 256
    whole, frozen = (model_flops(config, 1, 256, frozen=frozen) for frozen in (False, True))
    assert 3 * (frozen - attention) == 2 * (whole - attention)


def test_a_classifier_has_no_products_with_the_word_table() -> None:
    config = geometry("124m")
    table = 6 * 256 * config.vocab * config.hidden
    classifier = attrs.evolve(config, labels=3)
    assert model_flops(config, 1, 256) - model_flops(classifier, 1, 256) == table
