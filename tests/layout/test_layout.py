from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import by_layer, decays, param_specs, parameter_count
from gpt2dsl.layout.pipeline_stages import stage_of, stage_tensors

SMALL = GPT2Config(layers=3, heads=2, hidden=8, positions=16, vocab=300, inner=20)


@given(st.integers(1, 200), st.integers(1, 64))
def test_stages_are_balanced_and_in_order(layers: int, pp: int) -> None:
    pp = min(pp, layers)
    stages = [stage_of(layer, layers, pp) for layer in range(layers)]
    assert stages == sorted(stages)
    sizes = [stages.count(stage) for stage in range(pp)]
    assert max(sizes) - min(sizes) <= 1
    assert stage_of(-1, layers, pp) == 0
    assert stage_of(layers, layers, pp) == pp - 1


def test_the_word_table_is_on_the_first_and_the_last_stage_and_all_else_once() -> None:
    held = [tensor.name for stage in range(3) for tensor in stage_tensors(SMALL, stage, 3)]
    names = [tensor.name for tensor in param_specs(SMALL)]
    assert sorted(held) == sorted([*names, "transformer.wte.weight"])


def test_the_vocabulary_is_padded_to_a_multiple_of_128() -> None:
    assert SMALL.padded_vocab == 384
    assert GPT2Config(layers=1, heads=1, hidden=1, positions=1, vocab=50257).padded_vocab == 50304


def test_names_are_told_apart_by_their_block() -> None:
    names = [tensor.name for tensor in param_specs(SMALL)]
    groups = [[names[i] for i in layer] for layer in by_layer(names)]
    between, *blocks = groups
    assert between == [*names[:2], *names[-2:]]
    assert blocks == [names[i : i + 12] for i in range(2, len(names) - 2, 12)]
    assert by_layer([]) == []


def test_matrices_decay_and_vectors_do_not() -> None:
    assert {
        tensor.name.rpartition(".")[2] for tensor in param_specs(SMALL) if decays(tensor.shape)
    } == {"weight"}
    assert all(len(tensor.shape) == 1 for tensor in param_specs(SMALL) if not decays(tensor.shape))


def test_a_classifier_adds_its_score() -> None:
    labelled = GPT2Config(layers=3, heads=2, hidden=8, positions=16, vocab=300, inner=20, labels=4)
    assert parameter_count(labelled) == parameter_count(SMALL) + 4 * 8
