from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl import Recipe, Task
from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import MULTI_LABEL, REGRESSION, GPT2Config
from gpt2dsl.weights import opening, reading
from gpt2dsl.weights.files import ckptfile
from gpt2dsl.weights.files.lazy_tensor import ArrayTensor, LazyTensor
from gpt2dsl.weights.formats import huggingface, mindformers, settings
from gpt2dsl.weights.formats.config import to_config
from gpt2dsl.weights.infer_config import Overrides
from tests.weights.conftest import random_arrays

HEADS = Overrides(heads=2)


def held(geometry: GPT2Config) -> dict[str, LazyTensor]:
    return {name: ArrayTensor.of(array) for name, array in random_arrays(geometry).items()}


@given(
    st.builds(
        GPT2Config, layers=st.integers(1, 3), heads=st.just(1), hidden=st.integers(1, 7),
        positions=st.integers(1, 5), vocab=st.integers(1, 9), inner=st.integers(1, 9),
        labels=st.integers(0, 3),
    )
)  # fmt: skip
def test_there_and_back_is_the_identity_whatever_the_shapes(geometry: GPT2Config) -> None:
    tensors = held(geometry)
    back = mindformers.renamed(mindformers.named(tensors), Path("a.ckpt"))
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert back[name].shape == tensor.shape
        assert np.array_equal(back[name].load(), tensor.load())


def test_names_shapes_and_values_are_those_of_mindformers(geometry: GPT2Config) -> None:
    arrays = random_arrays(geometry)
    named = mindformers.named({name: ArrayTensor.of(array) for name, array in arrays.items()})
    block = "backbone.blocks.1"
    key = named[f"{block}.attention.dense2.weight"]
    whole = arrays["transformer.h.1.attn.c_attn.weight"]
    assert np.array_equal(key.load(), whole[:, 8:16].T)
    assert np.array_equal(
        named[f"{block}.attention.dense3.bias"].load(),
        arrays["transformer.h.1.attn.c_attn.bias"][16:],
    )
    assert named[f"{block}.output.mapping.weight"].shape == (8, 32)
    assert len(named) == 2 + 16 * geometry.layers + 2


def _checkpoint(path: Path, geometry: GPT2Config, **more: np.ndarray) -> Path:
    named = mindformers.named(held(geometry))
    ckptfile.write(path, named | {name: ArrayTensor.of(array) for name, array in more.items()})
    return path


def test_the_state_of_training_is_no_weight(tmp_path: Path, geometry: GPT2Config) -> None:
    state = {
        name: np.ones(3, np.float32)
        for name in (
            "adam_m.backbone.layernorm.gamma", "adam_v.score.weight", "global_step", "scale_sense",
            "epoch_num", "step_num", "loss_scale", "learning_rate", "current_iterator_step",
            "last_overflow_iterator_step", "backbone.blocks.0.key_past",
            "backbone.blocks.1.value_past",
        )
    }  # fmt: skip
    path = _checkpoint(tmp_path / "a.ckpt", geometry, **state)
    found = opening.opened(path, HEADS)
    assert len(found.training_state) == len(state)
    assert not found.faults
    assert not found.missing


@pytest.mark.parametrize("lost", ["attention.dense2.weight", "attention.projection.bias"])
def test_what_is_missing_is_named(tmp_path: Path, geometry: GPT2Config, lost: str) -> None:
    named = mindformers.named(held(geometry))
    del named[f"backbone.blocks.1.{lost}"]
    ckptfile.write(tmp_path / "a.ckpt", named)
    with pytest.raises(InputError, match=r"1 missing: (backbone\.blocks|transformer\.h)\.1\."):
        reading.read_info(tmp_path / "a.ckpt", HEADS)


@pytest.mark.parametrize("old", ["mindpet_delta_lora_a", "tk_delta_lora_A"])
def test_its_adapters_are_merged_and_become_one_of_peft(
    tmp_path: Path, geometry: GPT2Config, old: str
) -> None:
    random = np.random.default_rng(1)
    lora = {
        f"backbone.blocks.0.attention.{third}.{old[:-1]}{half}": random.normal(
            size=(4, 8) if half in "aA" else (8, 4)
        ).astype(np.float32)
        for third in ("dense1", "dense3")
        for half in (("a", "b") if old.endswith("a") else ("A", "B"))
    }
    path = _checkpoint(tmp_path / "a.ckpt", geometry, **lora)
    with pytest.raises(InputError, match="its lora_alpha is in the YAML that belongs beside it"):
        reading.read_info(path, HEADS)
    path.with_suffix(".yaml").write_text(
        "model: {model_config: {num_heads: 2, pet_config: {lora_alpha: 8}}}"
    )
    a1, b1, a3, b3 = lora.values()
    expected = random_arrays(geometry)["transformer.h.0.attn.c_attn.weight"].copy()
    expected[:, :8] += 2 * (b1 @ a1).T
    expected[:, 16:] += 2 * (b3 @ a3).T
    found = reading.read(path)
    assert np.allclose(found.arrays["transformer.h.0.attn.c_attn.weight"], expected, atol=1e-5)
    one = opening.adapter(path, Overrides()).modules["transformer.h.0.attn.c_attn"]
    assert (one.rank, one.alpha, one.scale) == (8, 16, 2)
    assert not one.b.load()[8:16].any()


def test_half_an_adapter_is_told(tmp_path: Path, geometry: GPT2Config) -> None:
    name = "backbone.blocks.0.attention.dense1.mindpet_delta_lora_a"
    path = _checkpoint(tmp_path / "a.ckpt", geometry, **{name: np.ones((2, 8), np.float32)})
    path.with_suffix(".yaml").write_text(
        "model: {model_config: {num_heads: 2, pet_config: {lora_alpha: 8}}}"
    )
    with pytest.raises(InputError, match="block 0: half of the adapter of dense1 is missing"):
        reading.read_info(path)


@pytest.mark.parametrize(
    ("yaml", "overrides", "said"),
    [
        (None, Overrides(), "how many heads it has is not in the file"),
        ("model: {model_config: {hidden_act: gelu}}", Overrides(), "how many heads it has"),
        ("model: {model_config: {num_heads: 3}}", Overrides(), "3 heads do not divide the width 8"),
        ("model: {model_config: {num_heads: two}}", Overrides(), "num_heads is 'two', a positive"),
        ("model: {model_config: {num_heads: 2, num_layers: 3}}", Overrides(), "layers is 3 in one"),
        (
            "model: {model_config: {num_heads: 2, hidden_act: swish}}",
            Overrides(),
            "hidden_act is 'swi",
        ),
        (
            "model: {model_config: {num_heads: 2, hidden_act: [gelu]}}",
            Overrides(),
            r"hidden_act is \['gelu'\], one of",
        ),
        *(
            (
                f"model: {{model_config: {{num_heads: 2, {key}: {rate}}}}}",
                Overrides(),
                f"{key} is {found}, a number from 0 to below 1 is expected",
            )
            for key in ("hidden_dropout_rate", "attention_dropout_rate")
            for rate, found in (
                ("1.0", "1.0"),
                ("-0.1", "-0.1"),
                ("high", "'high'"),
                ("true", "True"),
                (".nan", "nan"),
                ("", "None"),
            )
        ),
        *(
            (
                f"model: {{model_config: {{num_heads: 2, pet_config: {{lora_alpha: {alpha}}}}}}}",
                Overrides(),
                f"pet_config.lora_alpha is {found}, a number is expected",
            )
            for alpha, found in (("true", "True"), ("'8'", "'8'"), (".inf", "inf"))
        ),
        *(
            (
                f"{key}: {value}\nmodel: {{model_config: {{num_heads: 2}}}}",
                Overrides(),
                f"{key} is {found}, the table is expected that gpt2dsl writes",
            )
            for key in ("hugging_face", "hugging_face_generation")
            for value, found in (("3", "3"), ("config.json", "'config.json'"))
        ),
        ("model: [", Overrides(), "it is not YAML"),
        ("seed: 0", Overrides(), "it has no model.model_config"),
        (
            None,
            Overrides(size=GPT2Config(layers=2, heads=2, hidden=8, positions=9, vocab=9)),
            "positio",
        ),
    ],
)
def test_a_network_that_is_not_known_for_sure_is_refused(
    tmp_path: Path, geometry: GPT2Config, yaml: str | None, overrides: Overrides, said: str
) -> None:
    path = _checkpoint(tmp_path / "a.ckpt", geometry)
    if yaml:
        path.with_suffix(".yaml").write_text(yaml)
    with pytest.raises(InputError, match=said) as caught:
        reading.read_info(path, overrides)
    assert "\n" not in str(caught.value)


def test_the_network_comes_from_the_yaml_or_the_size_or_the_heads(
    tmp_path: Path, geometry: GPT2Config
) -> None:
    path = _checkpoint(tmp_path / "a.ckpt", geometry)
    assert reading.read_info(path, HEADS).geometry == geometry
    fast = attrs.evolve(geometry, activation="fast_gelu")
    assert reading.read_info(path, Overrides(size=fast)).geometry == fast
    other_words = attrs.evolve(fast, vocab=50257)  # the data's vocabulary is not the size's
    assert reading.read_info(path, Overrides(size=other_words)).geometry == fast
    assert (
        reading.read_info(path, Overrides(heads=2, activation="relu")).geometry.activation == "relu"
    )
    (tmp_path / "other.yaml").write_text(
        "model: {model_config: {num_heads: 4, hidden_act: fast_gelu, hidden_dropout_rate: 0.3}}"
    )
    found = reading.read_info(path).geometry
    assert (found.heads, found.activation, found.dropout) == (4, "fast_gelu", 0.3)
    (tmp_path / "another.yaml").write_text("seed: 0")
    with pytest.raises(InputError, match="how many heads"):
        reading.read_info(path)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [(1, REGRESSION), (3, REGRESSION), (1, MULTI_LABEL), (3, MULTI_LABEL), (3, ""), (0, "")],
)
def test_a_classifier_of_each_kind_comes_back(
    tmp_path: Path, geometry: GPT2Config, labels: int, problem: str
) -> None:
    network = attrs.evolve(geometry, labels=labels, problem=problem, attention_dropout=0.3)
    tensors = random_arrays(network)
    (tmp_path / "a").mkdir()
    huggingface.write(tmp_path / "a", network, tensors)
    for source, target, form in (("a", "b", "mindformers"), ("b", "c", "hf")):
        task = Task.convert(source=str(tmp_path / source), target=str(tmp_path / target), to=form)
        Recipe(task).plan().run()
        assert reading.read_info(tmp_path / target).geometry == network
    found = opening.opened(tmp_path / "c", Overrides()).tensors
    assert all(np.array_equal(found[name].load(), array) for name, array in tensors.items())


@pytest.mark.parametrize(("labels", "problem"), [(1, REGRESSION), (3, ""), (0, "")])
def test_the_kind_of_a_classifier_of_mindformers_follows_from_its_outputs(
    tmp_path: Path, geometry: GPT2Config, labels: int, problem: str
) -> None:
    network = attrs.evolve(geometry, labels=labels, problem=problem)
    assert reading.read_info(_checkpoint(tmp_path / "a.ckpt", network), HEADS).geometry == network


def test_query_key_and_value_that_do_not_fit_are_shown(
    tmp_path: Path, geometry: GPT2Config
) -> None:
    named = mindformers.named(held(geometry))
    named["backbone.blocks.0.attention.dense2.weight"] = ArrayTensor.of(np.ones((4, 8), np.float32))
    ckptfile.write(tmp_path / "a.ckpt", named)
    with pytest.raises(InputError, match=r"do not fit: dense1 \[8, 8\] F32, dense2 \[4, 8\] F32"):
        reading.read_info(tmp_path / "a.ckpt", HEADS)


def test_a_name_that_a_cell_put_before_it_does_not_matter(
    tmp_path: Path, geometry: GPT2Config
) -> None:
    named = mindformers.named(held(geometry))
    path = tmp_path / "a.ckpt"
    ckptfile.write(path, {f"network.network.{name}": tensor for name, tensor in named.items()})
    assert reading.read_info(path, HEADS).geometry == geometry


@pytest.mark.parametrize(
    "shapes", [((2, 8), (8, 3)), ((2, 7), (7, 2)), ((2,), (8, 2)), ((2, 8), (8, 2), (3, 8), (8, 3))]
)
def test_adapters_that_do_not_fit_are_told(
    tmp_path: Path, geometry: GPT2Config, shapes: tuple[tuple[int, ...], ...]
) -> None:
    names = [
        f"{third}.mindpet_delta_lora_{half}" for third in ("dense1", "dense3") for half in "ab"
    ]
    lora = {
        f"backbone.blocks.0.attention.{name}": np.ones(shape, np.float32)
        for name, shape in zip(names, shapes, strict=False)
    }
    path = _checkpoint(tmp_path / "a.ckpt", geometry, **lora)
    path.with_suffix(".yaml").write_text(
        "model: {model_config: {num_heads: 2, pet_config: {lora_alpha: 8}}}"
    )
    with pytest.raises(InputError, match=r"block 0: its adapters are|do not fit the base"):
        reading.read_info(path)


def test_a_yaml_that_was_edited_after_it_was_written_contradicts_itself(
    tmp_path: Path, geometry: GPT2Config
) -> None:
    path = _checkpoint(tmp_path / "a.ckpt", geometry)
    text = settings.yaml_of(geometry, to_config(geometry)).decode()
    path.with_suffix(".yaml").write_text(text)
    assert reading.read_info(path).geometry == geometry
    for old, new in (
        ("num_heads: 2", "num_heads: 4"),
        ("hidden_act: gelu", "hidden_act: relu"),
        ("hidden_dropout_rate: 0.1", "hidden_dropout_rate: 0.2"),
        ("attention_dropout_rate: 0.1", "attention_dropout_rate: 0.2"),
    ):
        path.with_suffix(".yaml").write_text(text.replace(old, new))
        with pytest.raises(
            InputError, match=r"in one place and .* \(hugging_face and model_config"
        ):
            reading.read_info(path)


def test_settings_of_generation_beside_a_checkpoint_go_before_those_of_its_yaml(
    tmp_path: Path, geometry: GPT2Config
) -> None:
    path = _checkpoint(tmp_path / "a.ckpt", geometry)
    path.with_suffix(".yaml").write_bytes(
        settings.yaml_of(geometry, to_config(geometry), {"eos_token_id": 3, "max_length": 9})
    )
    assert reading.read_info(path).defaults.values["generation.max_length"].value == 9
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    found = reading.read_info(path).defaults
    assert found.values["generation.eos"].value == [2]
    assert "generation.max_length" not in found.values
