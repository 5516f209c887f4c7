from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.weights import location, reading
from gpt2dsl.weights.files import ckptfile
from gpt2dsl.weights.files.lazy_tensor import ArrayTensor
from gpt2dsl.weights.formats import mindformers
from tests.weights.conftest import random_arrays


@pytest.fixture
def checkpoint(geometry: GPT2Config, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a MindFormers checkpoint."""
    held = {name: ArrayTensor.of(array) for name, array in random_arrays(geometry).items()}
    path = tmp_path_factory.mktemp("checkpoint") / "a.ckpt"
    ckptfile.write(path, mindformers.named(held))
    return path.read_bytes()


def test_a_folder_of_the_hubs_name_goes_before_the_hub(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, "openai-community/gpt2")
    for name in ("openai-community/gpt2", "gpt2", "124m", "small"):
        assert location.find(name).files == (Path("openai-community/gpt2/model.safetensors"),)
    shutil.copytree(folder, "gpt2")
    assert location.find("gpt2").files == (Path("gpt2/model.safetensors"),)


def test_what_is_in_the_hubs_cache_is_found_by_its_names(folder: Path, tmp_path: Path) -> None:
    repo = tmp_path / "hub" / "models--openai-community--gpt2-medium"
    shutil.copytree(folder, repo / "snapshots" / "abc")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    for name in ("355m", "medium", "gpt2-medium", "openai-community/gpt2-medium"):
        command = [sys.executable, "-m", "gpt2dsl", "inspect", name, "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["weights"] == name
    command = [sys.executable, "-m", "gpt2dsl", "inspect", "774m"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"not fetched yet: {sys.executable} -m gpt2dsl fetch 774m" in done.stderr


def test_what_can_be_no_name_of_the_hub_is_absent() -> None:
    with pytest.raises(InputError, match=r"\./no/where: there is no such file or folder"):
        location.find("./no/where")


@pytest.mark.usefixtures("elsewhere")
def test_what_can_only_be_a_run_is_no_name_of_the_hub() -> None:
    for fetch in (False, True):
        with pytest.raises(InputError, match="no such run; those in runs: none"):
            location.find("runs/base-12345678", fetch=fetch)
    for name in ("base-12345678", "base-9abcdef0", "other-12345678"):
        Path("mine", name).mkdir(parents=True)
        Path("mine", name, "plan.json").touch()
    with pytest.raises(InputError, match=r"no such run; those in mine: base-9abcdef0, base-1"):
        location.find("mine/base-9abcdef1", fetch=True)
    Path("weights").mkdir()
    with pytest.raises(InputError, match="not fetched yet"):
        location.find("weights/gpt2")


def test_the_format_is_that_of_the_content_whatever_the_name(
    folder: Path, tmp_path: Path, checkpoint: bytes, geometry: GPT2Config
) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert reading.read_info(folder).kind == "Hugging Face, safetensors"
    (tmp_path / "weights.bin").write_bytes(checkpoint)
    (tmp_path / "weights.yaml").write_text("model: {model_config: {num_heads: 2}}")
    info = reading.read_info(tmp_path / "weights.bin")
    assert (info.kind, info.geometry) == ("MindFormers, .ckpt", geometry)


def test_a_folder_of_mindformers_holds_one_checkpoint(tmp_path: Path, checkpoint: bytes) -> None:
    (tmp_path / "rank_0").mkdir()
    (tmp_path / "rank_0" / "a.ckpt").write_bytes(checkpoint)
    assert location.find(tmp_path).files == (tmp_path / "rank_0" / "a.ckpt",)
    (tmp_path / "rank_1").mkdir()
    with pytest.raises(InputError, match=r"rank_1: it holds no \.ckpt"):
        location.find(tmp_path)
    shutil.rmtree(tmp_path / "rank_1")
    (tmp_path / "rank_0" / "b.ckpt").write_bytes(checkpoint)
    with pytest.raises(InputError, match=r"it has 2 checkpoints, name one of them: a.ckpt, b.ckpt"):
        location.find(tmp_path / "rank_0")


def test_an_index_names_its_folder(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    names = reading.read(folder).arrays
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "one.safetensors")}))
    assert location.find(index).files == (folder / "one.safetensors",)
    assert reading.read_info(index).kind == "Hugging Face, safetensors"
    index.write_text(json.dumps({"weight_map": {"x": "one.safetensors"}}))
    with pytest.raises(InputError, match="x is not in it, but the index says so"):
        reading.read_info(index)


def test_a_tensor_in_two_shards_is_told(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "b.safetensors")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    with pytest.raises(InputError, match=r"b.safetensors: .* is in a.safetensors too"):
        reading.read_info(folder)


@pytest.mark.usefixtures("elsewhere")
def test_a_wrong_name_is_told_before_mindspore_is_imported() -> None:
    code = (
        "import sys, gpt2dsl\n"
        "try: gpt2dsl.load('wrong-name')\n"
        "except gpt2dsl.InputError as error: print(error, 'mindspore' in sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "wrong-name: there is no such file or folder [G2-301] False\n"
