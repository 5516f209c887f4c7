from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import (
    AutoTokenizer,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Model,
)
from transformers import (
    GPT2Config as HFConfig,
)

from gpt2dsl.data import digests
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.weights import reading, store
from gpt2dsl.weights.files.lazy_tensor import Array
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.network_weights import Weights
from tests.weights.conftest import random_arrays, read_all

TABLE = "transformer.wte.weight"
BIAS = "transformer.h.0.attn.c_attn.bias"
NORM = "transformer.ln_f.weight"


def equal(found: Weights, arrays: dict[str, Array]) -> bool:
    return list(found.arrays) == list(arrays) and all(
        found.arrays[name].dtype == np.float32 and np.array_equal(found.arrays[name], array)
        for name, array in arrays.items()
    )


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    arrays = dict(load_file(folder / "model.safetensors"))
    edit(arrays)
    save_file(arrays, folder / "model.safetensors")


def checkpoint(run: Path, step: int, geometry: GPT2Config, arrays: dict[str, Array]) -> Path:
    final = run / "checkpoints" / f"step-{step}"
    with store.writing(final) as folder:
        huggingface.write(folder, geometry, arrays)
    return final


@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "fast_gelu", "relu"])
def test_transformers_reads_what_is_written_here(
    tmp_path: Path, geometry: GPT2Config, arrays: dict[str, Array], tokenizer: Tokenizer,
    activation: str,
) -> None:  # fmt: skip
    geometry = attrs.evolve(geometry, activation=activation)
    huggingface.write(tmp_path, geometry, arrays, tokenizer)
    model, info = GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    for name, array in arrays.items():
        assert np.array_equal(model.state_dict()[name].numpy(), array)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("the cat")["input_ids"] == tokenizer.encode("the cat")
    assert theirs.model_max_length == geometry.positions
    assert model.generation_config.eos_token_id == tokenizer.eos == model.config.eos_token_id
    found = reading.read(tmp_path)
    assert found.geometry == geometry
    assert equal(found, arrays)
    assert found.tokenizer == tmp_path


def test_transformers_reads_a_classifier_that_is_written_here(
    tmp_path: Path, geometry: GPT2Config
) -> None:
    geometry = attrs.evolve(geometry, labels=3)
    arrays = random_arrays(geometry)
    huggingface.write(tmp_path, geometry, arrays)
    model, info = GPT2ForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert np.array_equal(model.score.weight.detach().numpy(), arrays["score.weight"])
    assert model(torch.zeros((2, 3), dtype=torch.int64)).logits.shape == (2, 3)
    found = reading.read(tmp_path)
    assert found.geometry == geometry
    assert equal(found, arrays)


@pytest.mark.parametrize("kind", [GPT2LMHeadModel, GPT2Model, GPT2ForSequenceClassification])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shard", ["5GB", "2KB"])
def test_what_transformers_writes_is_read_here(
    tmp_path: Path, kind: Any, dtype: Any, shard: str
) -> None:
    config = HFConfig(n_layer=2, n_head=2, n_embd=8, n_positions=16, vocab_size=50, n_inner=24)
    model = kind(config).to(dtype)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors").exists() == (shard == "5GB")
    found = reading.read(tmp_path)
    body = found.arrays if kind is not GPT2Model else {n[12:]: a for n, a in found.arrays.items()}
    state = model.state_dict()
    state.pop("lm_head.weight", None)
    assert set(body) == set(state)
    for name, array in body.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, state[name].float().numpy())
    assert found.geometry.inner == 24
    assert found.geometry.labels == (2 if kind is GPT2ForSequenceClassification else 0)
    info = reading.read_info(tmp_path)
    assert (info.path, info.geometry) == (found.path, found.geometry)
    assert info.tokenizer is found.tokenizer is None


def test_a_file_is_read_with_the_config_beside_it(folder: Path, arrays: dict[str, Array]) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert equal(reading.read(folder / "other.safetensors"), arrays)
    assert reading.read_info(folder / "other.safetensors").path == folder / "other.safetensors"


def test_causal_masks_and_a_tied_head_are_no_weights(
    folder: Path, arrays: dict[str, Array]
) -> None:
    change(folder, lambda a: a.update({"transformer.h.1.attn.bias": np.ones((1, 1, 4, 4))}))
    change(folder, lambda a: a.update({"transformer.h.1.attn.masked_bias": np.zeros(())}))
    change(folder, lambda a: a.update({"lm_head.weight": a[TABLE]}))
    assert equal(reading.read(folder), arrays)


def test_float64_is_read(folder: Path) -> None:
    change(folder, lambda a: a.update({NORM: a[NORM].astype(np.float64)}))
    assert reading.read(folder).arrays[NORM].dtype == np.float32


def test_a_transposed_array_is_written_as_it_reads(tmp_path: Path, geometry: GPT2Config) -> None:
    arrays = {n: np.asfortranarray(a) for n, a in random_arrays(geometry).items()}
    huggingface.write(tmp_path, geometry, arrays)
    assert equal(reading.read(tmp_path), arrays)


def test_what_is_not_the_network_is_not_written(
    tmp_path: Path, geometry: GPT2Config, arrays: dict[str, Array]
) -> None:
    with pytest.raises(ValueError, match="not the network's tensors"):
        huggingface.write(tmp_path, attrs.evolve(geometry, labels=1), arrays)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda a: a.pop(BIAS), f"1 missing: {BIAS}"),
        (lambda a: [a.pop(n) for n in list(a) if "h.1" in n], r"12 missing: .*, and 9 more"),
        (lambda a: a.update(x=a[NORM]), r"1 unexpected: transformer\.x"),
        (lambda a: a.update({BIAS: a[NORM]}), f"1 of another shape: {BIAS} is 8, not 24"),
        (lambda a: a.update({NORM: np.zeros(8, np.int8)}), f"1 not floats: {NORM} is I8"),
        (lambda a: a[NORM].__setitem__(3, np.nan), f"NaN or infinite: {NORM}"),
        (lambda a: a[BIAS].__setitem__(3, -np.inf), f"NaN or infinite: {BIAS}"),
        (lambda a: a.update({NORM: np.full(8, 1e300)}), f"NaN or infinite: {NORM}"),
        (lambda a: a.update({"lm_head.weight": a[TABLE] + 1}), "lm_head.weight is not the word"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    folder: Path, edit: Callable[[dict[str, Any]], object], said: str
) -> None:
    change(folder, edit)
    with pytest.raises(InputError, match=said) as caught:
        read_all(folder)
    assert caught.value.faults[0].code == "G2-306"
    assert "\n" not in str(caught.value)


def test_every_kind_of_misfit_is_told_at_once(folder: Path) -> None:
    change(folder, lambda a: a.update(x=a.pop(BIAS)))
    with pytest.raises(InputError, match=r"1 missing: .*; 1 unexpected: "):
        reading.read_info(folder)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "G2-301", "no such file"),
        (lambda f: (f / "config.json").unlink(), "G2-301", "config.json: it is not there"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "G2-302", "the file is empty"),
        (lambda f: (f / "config.json").write_bytes(b""), "G2-302", "the file is empty"),
        (lambda f: (f / "config.json").write_bytes(b"{"), "G2-304", "it is not JSON"),
        (lambda f: (f / "config.json").write_bytes(b"[]"), "G2-304", "it is not a JSON object"),
        (lambda f: _cut(f / "model.safetensors"), "G2-304", "it is no whole safetensors file"),
        (lambda f: (f / "model.safetensors").write_text("a text"), "G2-304", "no whole safe"),
        (
            lambda f: (f / "model.safetensors").rename(f / "model.safetensors.index.json"),
            "G2-304",
            "index.json: it is not JSON",
        ),
    ],
)
def test_damage_is_told_in_one_line(
    folder: Path, damage: Callable[[Path], object], code: str, said: str
) -> None:
    damage(folder)
    for use in (reading.read_info, reading.read):
        with pytest.raises(InputError, match=said) as caught:
            use(folder)
        assert caught.value.faults[0].code == code
        assert "\n" not in str(caught.value)


def test_one_tensor_under_two_names_is_told(folder: Path) -> None:
    change(folder, lambda a: a.update({"wte.weight": a[TABLE] + 1}))
    with pytest.raises(InputError, match=r"transformer\.wte\.weight is in it under two names"):
        reading.read_info(folder)


def test_a_head_of_another_shape_is_told_without_reading_it(folder: Path) -> None:
    change(folder, lambda a: a.update({"lm_head.weight": a[TABLE][:3]}))
    with pytest.raises(InputError, match=r"1 of another shape: lm_head\.weight is 3x8, the word"):
        reading.read_info(folder)


def test_names_of_distributed_data_parallel_are_read(
    folder: Path, arrays: dict[str, Array]
) -> None:
    def edit(held: dict[str, Any]) -> None:
        for name in list(held):
            held[f"module.{name}"] = held.pop(name)

    change(folder, edit)
    assert equal(reading.read(folder), arrays)


def test_an_index_may_only_name_files_beside_it(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    for names, said in (({}, "no weight_map"), ({"a": "../b"}, "'../b' is no file of this")):
        index.write_text(json.dumps({"weight_map": names}))
        with pytest.raises(InputError, match=said):
            reading.read(folder)
    index.write_text(json.dumps({"weight_map": {"a": "b.safetensors"}}))
    with pytest.raises(InputError, match=r"b.safetensors: there is no such file.*G2-301"):
        reading.read(folder)


def test_absent_empty_and_other_kinds_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="G2-301"):
        reading.read_info("openai-community/gpt2")
    with pytest.raises(InputError, match=r"the folder is empty.*G2-302"):
        reading.read_info(tmp_path)
    (tmp_path / "gpt2.ckpt").touch()
    for path in (tmp_path, tmp_path / "gpt2.ckpt"):
        with pytest.raises(InputError, match=r"gpt2\.ckpt: the file is empty.*G2-302"):
            reading.read_info(path)
    with pytest.raises(InputError, match=r"File name too long.*G2-304"):
        reading.read_info("x" * 5000)


def test_a_checkpoint_is_verified(
    tmp_path: Path, geometry: GPT2Config, arrays: dict[str, Array]
) -> None:
    path = checkpoint(tmp_path, 3, geometry, arrays)
    assert equal(reading.read(path), arrays)
    info = reading.read_info(path)
    assert info.kind == "checkpoint step-3"
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "model.safetensors").write_bytes(data)
    with pytest.raises(InputError, match=r"model.safetensors: it is damaged: its checksum.*G2-304"):
        reading.read(path)


def test_a_run_is_its_newest_whole_checkpoint(tmp_path: Path, geometry: GPT2Config) -> None:
    versions = {step: random_arrays(geometry, step) for step in (2, 10)}
    paths = {step: checkpoint(tmp_path, step, geometry, a) for step, a in versions.items()}
    for name in (tmp_path, tmp_path / "checkpoints"):
        found = reading.read(name)
        assert equal(found, versions[10])
        assert found.path == paths[10]
    (paths[10] / "config.json").unlink()
    found = reading.read(tmp_path)
    assert equal(found, versions[2])
    assert len(found.location.skipped) == 1
    (paths[2] / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"step-10/config.json: it is absent.*G2-304"):
        reading.read(tmp_path)


def test_a_run_without_a_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match=r"the run has no checkpoint.*G2-301"):
        reading.read(tmp_path)


def test_the_digest_of_a_large_file_is_pending(
    tmp_path: Path, folder: Path, geometry: GPT2Config, arrays: dict[str, Array],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(digests, "LARGE", 10)
    path = checkpoint(tmp_path, 1, geometry, arrays)
    assert reading.read_info(path).digest is None
    assert reading.read_info(folder).digest is None
    monkeypatch.undo()
    assert reading.read_info(folder).digest == reading.read_info(path).digest
    assert reading.read_info(folder).size == reading.read_info(path).size
