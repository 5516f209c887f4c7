"""Two hundred damaged inputs: none crashes, runs code or loads, and each gets one line."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import GPT2Config as HFConfig
from transformers import GPT2LMHeadModel

from gpt2dsl import Recipe, Task
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.weights import reading, store
from gpt2dsl.weights.formats import huggingface
from tests.weights.conftest import random_arrays, read_all

WEIGHTS, BIN, CKPT = "model.safetensors", "pytorch_model.bin", "mindspore_model.ckpt"
FOREIGN = {"safetensors": WEIGHTS, "bin": BIN, "old bin": BIN, "mindformers": CKPT}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Whole weights of every format."""
    parent = tmp_path_factory.mktemp("whole")
    paths = {name: parent / name for name in (*FOREIGN, "shards", "ours", "bin shards")}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(HFConfig(n_layer=2, n_head=2, n_embd=8, n_positions=16, vocab_size=50))
    model.save_pretrained(paths["safetensors"])
    model.save_pretrained(paths["shards"], max_shard_size="2KB")
    model.save_pretrained(paths["bin"], safe_serialization=False)
    model.save_pretrained(paths["bin shards"], safe_serialization=False, max_shard_size="2KB")
    paths["old bin"].mkdir()
    shutil.copy(paths["bin"] / "config.json", paths["old bin"])
    torch.save(model.state_dict(), paths["old bin"] / BIN, _use_new_zipfile_serialization=False)
    task = Task.convert(
        source=str(paths["safetensors"]), target=str(paths["mindformers"]), to="mindformers"
    )
    Recipe(task).plan().run()
    # What MindFormers writes has no manifest.
    (paths["mindformers"] / store.MANIFEST).unlink()
    tokenizer = Tokenizer.train(["the cat sat on the mat " * 9], 280)
    geometry = GPT2Config(layers=2, heads=2, hidden=8, positions=16, vocab=len(tokenizer))
    with store.writing(paths["ours"]) as folder:
        huggingface.write(folder, geometry, random_arrays(geometry), tokenizer)
    return paths


def damaged(whole: Path, target: Path, damage: Callable[[Path], object]) -> Path:
    shutil.copytree(whole, target)
    damage(target)
    return target


def refused(path: Path) -> str:
    """The one line, of a conversion and of reading alike."""
    with pytest.raises(InputError) as caught:
        read_all(path)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 700
    assert path.name in said
    return said


def cut(path: Path, keep: float) -> None:
    os.truncate(path, int(path.stat().st_size * keep))


def flip(path: Path, at: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_cut_short_anywhere(
    whole: dict[str, Path], tmp_path: Path, kind: str, seed: int
) -> None:
    keep = random.Random(seed).random()
    refused(damaged(whole[kind], tmp_path / "w", lambda f: cut(f / FOREIGN[kind], keep)))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", ["shards", "bin shards"])
def test_a_shard_cut_short_or_gone(
    whole: dict[str, Path], tmp_path: Path, kind: str, seed: int
) -> None:
    chance = random.Random(seed)
    suffix = ".safetensors" if kind == "shards" else ".bin"
    shard = chance.choice(sorted(path.name for path in whole[kind].glob(f"*{suffix}")))

    def damage(folder: Path) -> None:
        (folder / shard).unlink() if seed % 2 else cut(folder / shard, chance.random())

    assert shard in refused(damaged(whole[kind], tmp_path / "w", damage))


def refused_or_same(folder: Path, whole: Path) -> None:
    """Either all that a reader gets is what it would get of the whole weights, or one line."""
    expected = reading.read(whole)
    try:
        found = reading.read(folder)
    except InputError:
        refused(folder)
        return
    assert found.geometry == expected.geometry
    for name, array in expected.arrays.items():
        assert np.array_equal(found.arrays[name], array)


@pytest.mark.parametrize("seed", range(30))
def test_a_flipped_bit_in_a_header_is_refused_or_changes_nothing(
    whole: dict[str, Path], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    kind = chance.choice(["safetensors", "mindformers"])
    file = whole[kind] / FOREIGN[kind]
    data = file.read_bytes()
    if kind == "safetensors":
        at = chance.randrange(8 + struct.unpack("<Q", data[:8])[0])
    else:
        name = chance.choice(_tags(data))
        at = data.index(name) + chance.randrange(-6, len(name) + 12)
    folder = damaged(
        whole[kind], tmp_path / "w", lambda f: flip(f / FOREIGN[kind], at, chance.randrange(8))
    )
    refused_or_same(folder, whole[kind])


def _tags(data: bytes) -> list[bytes]:
    names = ("embedding.word_embedding", "blocks.0.layernorm1.gamma", "blocks.1.attention.dense2")
    return [name.encode() for name in names if name.encode() in data]


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_in_an_index_or_a_config_is_refused_or_changes_nothing(
    whole: dict[str, Path], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    name = "model.safetensors.index.json"
    at = chance.randrange((whole["shards"] / name).stat().st_size)
    folder = damaged(
        whole["shards"], tmp_path / "w", lambda f: flip(f / name, at, chance.randrange(8))
    )
    refused_or_same(folder, whole["shards"])


@pytest.mark.parametrize("seed", range(40))
def test_any_flipped_bit_of_ours_is_found(
    whole: dict[str, Path], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    files = sorted(path.name for path in whole["ours"].iterdir() if path.name != store.MANIFEST)
    name = files[seed % len(files)]
    at = chance.randrange((whole["ours"] / name).stat().st_size)
    folder = damaged(
        whole["ours"], tmp_path / "w", lambda f: flip(f / name, at, chance.randrange(8))
    )
    assert f"{name}: it is damaged: its checksum is not the written" in refused(folder)


@pytest.mark.parametrize("seed", range(10))
def test_a_flipped_bit_in_our_manifest_is_found_or_changes_nothing(
    whole: dict[str, Path], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    at = chance.randrange((whole["ours"] / store.MANIFEST).stat().st_size)
    folder = damaged(
        whole["ours"], tmp_path / "w", lambda f: flip(f / store.MANIFEST, at, chance.randrange(8))
    )
    refused_or_same(folder, whole["ours"])


BIAS = "transformer.h.1.attn.c_attn.bias"

EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing": (lambda a: a.pop(BIAS), "1 missing"),
    "a block missing": (lambda a: [a.pop(n) for n in list(a) if ".h.1." in n], "12 missing"),
    "extra": (lambda a: a.update({"transformer.x": a[BIAS]}), "1 unexpected"),
    "a block extra": (
        lambda a: a.update({n.replace(".h.1.", ".h.2."): v for n, v in a.items() if ".h.1." in n}),
        "12 unexpected",
    ),
    "longer": (lambda a: a.update({BIAS: np.append(a[BIAS], a[BIAS][:1])}), "1 of another shape"),
    "transposed": (
        lambda a: a.update({"transformer.wpe.weight": a["transformer.wpe.weight"].T.copy()}),
        "1 of another shape",
    ),
    "flat": (
        lambda a: a.update({"transformer.wpe.weight": a["transformer.wpe.weight"].reshape(-1)}),
        "of another shape|which fixes the network",
    ),
    "integers": (lambda a: a.update({BIAS: np.ones(24, np.int32)}), "1 not floats|1 missing"),
    "NaN": (lambda a: a[BIAS].__setitem__(3, np.nan), "NaN or infinite: "),
    "infinite": (lambda a: a[BIAS].__setitem__(0, -np.inf), "NaN or infinite: "),
    "another head": (
        lambda a: a.update({"lm_head.weight": a["transformer.wte.weight"] + 1}),
        "is not the word table|1 unexpected",
    ),
}


def _edited(kind: str, folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / FOREIGN[kind]
    if kind == "safetensors":
        arrays = dict(load_file(path))
        edit(arrays)
        save_file(arrays, path)
        return
    state = {name: t.numpy().copy() for name, t in torch.load(path).items()}
    state.pop("lm_head.weight")
    edit(state)
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=kind == "bin")


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("kind", ["safetensors", "bin", "old bin"])
def test_tensors_that_are_not_the_networks(
    whole: dict[str, Path], tmp_path: Path, kind: str, name: str
) -> None:
    edit, said = EDITS[name]
    folder = damaged(whole[kind], tmp_path / "w", lambda f: _edited(kind, f, edit))
    assert any(words in refused(folder) for words in said.split("|"))


@pytest.mark.parametrize("lost", ["tensor", "slice", "name", "type"])
def test_a_checkpoint_of_mindspore_with_wrong_lengths(
    whole: dict[str, Path], tmp_path: Path, lost: str
) -> None:
    def damage(folder: Path) -> None:
        data = (folder / CKPT).read_bytes()
        at = data.index(b"backbone.layernorm.gamma")
        edits = {
            "tensor": data[: at - 6] + data[at:],
            "slice": data.replace(b"\x1a\x20", b"\x1a\x10", 1),
            "name": data[:at] + b"\xff\xfe" + data[at + 2 :],
            "type": data.replace(b"Float32", b"Float99", 1),
        }
        (folder / CKPT).write_bytes(edits[lost])

    refused(damaged(whole["mindformers"], tmp_path / "w", damage))


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("how", ["bin", "old bin", "pickle", "safetensors", "ckpt", "in a tensor"])
def test_a_pickle_that_would_run_a_command(
    whole: dict[str, Path], tmp_path: Path, how: str
) -> None:
    mark = tmp_path / "ran"
    content: Any = {"transformer.wte.weight": _Evil(mark), "a": torch.ones(2)}

    def damage(folder: Path) -> None:
        for path in folder.glob("*.bin"):
            path.unlink()
        name = {"safetensors": WEIGHTS, "ckpt": CKPT}.get(how, BIN)
        if how in ("pickle", "safetensors", "ckpt"):
            (folder / name).write_bytes(pickle.dumps(content))
        elif how == "in a tensor":
            parameter = torch.nn.Parameter(torch.ones(2))
            parameter.evil = _Evil(mark)
            torch.save({"a": parameter}, folder / name)
        else:
            torch.save(content, folder / name, _use_new_zipfile_serialization=how == "bin")

    refused(damaged(whole["bin"], tmp_path / "w", damage))
    assert not mark.exists()


CONFIGS: list[dict[str, Any]] = [
    {"model_type": "llama"}, {"n_layer": 3}, {"n_layer": 1}, {"n_head": 3}, {"n_head": 0},
    {"n_embd": 16}, {"n_positions": 8}, {"vocab_size": 51}, {"n_inner": 31}, {"n_layer": "2"},
    {"activation_function": "prelu"}, {"add_cross_attention": True},
    {"layer_norm_epsilon": -1}, {"n_embd": 10**30},
]  # fmt: skip


@pytest.mark.parametrize("change", CONFIGS)
def test_a_config_of_another_network(
    whole: dict[str, Path], tmp_path: Path, change: dict[str, Any]
) -> None:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))

    refused(damaged(whole["safetensors"], tmp_path / "w", damage))
