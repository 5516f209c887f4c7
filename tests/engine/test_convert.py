from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from gpt2dsl import Model, Parallel, Recipe, SpecError, Task
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.job import Result
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.weights import reading, store
from gpt2dsl.weights.files import ckptfile
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.formats.config import to_config
from tests.judges import TINY, random_weights

ODD = {"n_layer": 3, "n_head": 3, "n_embd": 21, "n_positions": 17, "vocab_size": 301}


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**ODD, bos_token_id=7, eos_token_id=7, summary_type="mean"))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


@pytest.fixture(scope="module")
def sources(model: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same weights in every form that Hugging Face has."""
    parent = tmp_path_factory.mktemp("sources")
    forms: dict[str, dict[str, Any]] = {
        "safetensors": {},
        "safetensors in shards": {"max_shard_size": "20KB"},
        "bin": {"safe_serialization": False},
        "bin in shards": {"safe_serialization": False, "max_shard_size": "20KB"},
    }
    for name, keys in forms.items():
        model.save_pretrained(parent / name, **keys)
    old = parent / "bin of torch 1"
    old.mkdir()
    shutil.copy(parent / "bin" / "config.json", old)
    torch.save(model.state_dict(), old / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    body = parent / "without the prefix"
    model.transformer.save_pretrained(body)
    return {path.name: path for path in parent.iterdir()}


def convert(source: Path, target: Path, *parts: Any, **keys: Any) -> Result:
    return Recipe(Task.convert(source=str(source), target=str(target), **keys), *parts).plan().run()


def test_every_form_there_and_back_is_bit_identical_and_gives_the_same_bytes(
    sources: dict[str, Path], model: Any, tmp_path: Path
) -> None:
    written: dict[str, set[bytes]] = {"there": set(), "back": set(), "straight": set()}
    for name, source in sources.items():
        there, back = tmp_path / f"{name}.ckpt", tmp_path / f"{name} back"
        convert(source, there, to="mindformers")
        convert(there, back)
        convert(source, tmp_path / f"{name} straight")
        written["there"].add(there.read_bytes())
        written["back"].add((back / "model.safetensors").read_bytes())
        written["straight"].add((tmp_path / f"{name} straight/model.safetensors").read_bytes())
    assert {name: len(found) for name, found in written.items()} == dict.fromkeys(written, 1)
    assert written["back"] == written["straight"]
    state = model.state_dict()
    for name, tensor in load_file(tmp_path / "bin back" / "model.safetensors").items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.soak
def test_124m_there_and_back_is_bit_identical_from_one_file_and_from_shards(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config())
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "shards", max_shard_size="100MB")
    for name in ("one", "shards"):
        convert(tmp_path / name, tmp_path / f"{name}.ckpt", to="mindformers")
        convert(tmp_path / f"{name}.ckpt", tmp_path / f"{name} back")
    for form in ("{}.ckpt", "{} back/model.safetensors"):
        one, shards = (tmp_path / form.format(name) for name in ("one", "shards"))
        assert one.read_bytes() == shards.read_bytes()
    state = model.state_dict()
    found = load_file(tmp_path / "one back" / "model.safetensors")
    assert set(state) - set(found) == {"lm_head.weight"}
    for name, tensor in found.items():
        assert torch.equal(tensor.view(torch.int32), state[name].view(torch.int32)), name


def test_what_was_in_config_json_comes_back(sources: dict[str, Path], tmp_path: Path) -> None:
    convert(sources["bin"], tmp_path / "a.ckpt", to="mindformers")
    convert(tmp_path / "a.ckpt", tmp_path / "back")
    before = json.loads((sources["bin"] / "config.json").read_text())
    after = json.loads((tmp_path / "back" / "config.json").read_text())
    assert after["summary_type"] == "mean"
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_type_that_is_asked_for_is_torchs_rounding(
    sources: dict[str, Path], model: Any, tmp_path: Path, dtype: str
) -> None:
    convert(sources["safetensors"], tmp_path / "a", dtype=dtype)
    found = GPT2LMHeadModel.from_pretrained(tmp_path / "a", dtype="auto")
    assert str(found.dtype) == f"torch.{dtype}"
    for name, tensor in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor.to(found.dtype))
    convert(tmp_path / "a", tmp_path / "b")
    same = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert same[0] == same[1]


def test_shards_are_those_that_transformers_reads(
    sources: dict[str, Path], model: Any, tmp_path: Path
) -> None:
    convert(sources["bin"], tmp_path / "a", max_shard_size="20KB")
    shards = sorted((tmp_path / "a").glob("*.safetensors"))
    assert len(shards) > 2
    assert all(path.stat().st_size < 30_000 for path in shards)
    found, info = GPT2LMHeadModel.from_pretrained(tmp_path / "a", output_loading_info=True)
    assert not any(info.values())
    assert torch.equal(found.transformer.wte.weight, model.transformer.wte.weight)
    convert(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "model.safetensors").exists()
    store.verify(tmp_path / "a")


def test_the_tokenizer_goes_along(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["the cat sat on the mat " * 9], 300)
    geometry = attrs.evolve(TINY, inner=0, vocab=len(tokenizer))
    (tmp_path / "a").mkdir()
    huggingface.write(tmp_path / "a", geometry, random_weights(geometry), tokenizer)
    convert(tmp_path / "a", tmp_path / "b", to="mindformers")
    convert(tmp_path / "b", tmp_path / "c")
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()
    assert AutoTokenizer.from_pretrained(tmp_path / "c")("the cat")["input_ids"] == (
        tokenizer.encode("the cat")
    )


def test_the_class_of_a_tokenizer_that_config_json_alone_names_goes_along(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["the cat sat on the mat " * 9], 300)
    geometry = attrs.evolve(TINY, inner=0, vocab=len(tokenizer))
    source = tmp_path / "a"
    source.mkdir()
    named = {**to_config(geometry), "tokenizer_class": "PreTrainedTokenizerFast"}
    huggingface.write(source, geometry, random_weights(geometry), tokenizer, source=named)
    (source / "special_tokens_map.json").unlink()
    end = "<|endoftext|>"
    (source / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}))
    assert Tokenizer.load(source).bos is None  # GPT2Tokenizer has one where none is said
    convert(source, tmp_path / "b", to="mindformers")
    assert Tokenizer.load(tmp_path / "b").bos is None


def test_an_adapter_is_merged_only_where_that_is_said(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415  # slow, and only here

    base = GPT2LMHeadModel.from_pretrained(sources["safetensors"])
    lora = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    theirs = get_peft_model(base, lora)
    theirs.save_pretrained(tmp_path / "adapter")
    with pytest.raises(
        SpecError,
        match=r"task.source = .*: the source is an adapter: task.merge = true adds it to its base",
    ):
        convert(tmp_path / "adapter", tmp_path / "a")
    with pytest.raises(SpecError, match="there is no adapter in the source to merge"):
        convert(sources["bin"], tmp_path / "a", merge=True)
    convert(tmp_path / "adapter", tmp_path / "a", merge=True)
    found = GPT2LMHeadModel.from_pretrained(tmp_path / "a").eval()
    ids = torch.arange(10)[None]
    with torch.no_grad():
        assert (found(ids).logits - theirs.eval()(ids).logits).abs().max() < 1e-4


def test_what_is_missing_stays_random_only_where_that_is_allowed(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415  # as above

    source = tmp_path / "source"
    shutil.copytree(sources["safetensors"], source)
    tensors = load_file(source / "model.safetensors")
    lost = tensors.pop("transformer.h.1.mlp.c_fc.weight")
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(SpecError, match=r"1 missing: transformer\.h\.1\.mlp\.c_fc\.weight"):
        convert(source, tmp_path / "a")
    recipe = Recipe(
        Task.convert(source=str(source), target=str(tmp_path / "a")),
        Model(allow_missing=r"transformer\.h\.1\.mlp.*"),
    )
    assert "RANDOM: transformer.h.1.mlp.c_fc.weight" in str(recipe.plan())
    result = recipe.plan().run()
    assert "RANDOM values for transformer.h.1.mlp.c_fc.weight" in result.notes[0]
    found = load_file(tmp_path / "a" / "model.safetensors")["transformer.h.1.mlp.c_fc.weight"]
    assert found.shape == lost.shape
    assert 0.01 < found.std() < 0.03


def test_values_that_are_not_finite_or_do_not_fit_leave_nothing(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415  # as above

    tensors = load_file(sources["safetensors"] / "model.safetensors")
    for name, value, dtype, said in (
        ("nan", float("nan"), "", "NaN or infinite: transformer.wpe.weight"),
        ("large", 1e5, "float16", "NaN or infinite, or too large for float16: transformer.wpe"),
    ):
        source = tmp_path / name
        shutil.copytree(sources["safetensors"], source)
        tensors["transformer.wpe.weight"][3, 2] = value
        save_file(tensors, source / "model.safetensors", {"format": "pt"})
        for target, keys in (("t", {}), ("t.ckpt", {"to": "mindformers"})):
            with pytest.raises(InputError, match=said):
                convert(source, tmp_path / "out" / target, dtype=dtype, **keys)
            assert not list((tmp_path / "out").iterdir())


def test_home_is_where_the_target_says(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for target, keys in (("~/a", {}), ("~/b.ckpt", {"to": "mindformers"})):
        convert(sources["bin"], Path(target), **keys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b.ckpt", "b.yaml"]


def test_the_settings_of_generation_go_along(sources: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(sources["bin"], tmp_path / "a")
    (tmp_path / "a" / "generation_config.json").write_text('{"temperature": 0.7}')
    convert(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "generation_config.json").read_text() == '{"temperature": 0.7}'


@pytest.mark.parametrize(
    ("generation", "config"),
    [
        ({"eos_token_id": [7, 9], "do_sample": True, "sequence_bias": [[[3, 4], 1.5]]}, {}),
        ({"_from_model_config": True, "max_new_tokens": 7, "a_key_of_nobody": 1}, {}),
        (None, {"max_length": 12, "top_k": 3, "num_beams": 2}),
        (None, {}),
    ],
    ids=["of its own", "made of config.json", "in config.json", "none"],
)
def test_transformers_generates_as_with_the_source(
    sources: dict[str, Path], tmp_path: Path, generation: Any, config: dict[str, Any]
) -> None:
    source, ckpt = shutil.copytree(sources["safetensors"], tmp_path / "a"), tmp_path / "b.ckpt"
    (source / "generation_config.json").unlink()
    if generation is not None:
        (source / "generation_config.json").write_text(json.dumps(generation))
    own = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**own, **config}))
    convert(source, tmp_path / "c")
    convert(source, ckpt, to="mindformers")
    convert(ckpt, tmp_path / "d")
    resharded = Task.reshard(
        source=str(source), target=str(tmp_path / "e"), layout=Parallel(mp=1, dp=1)
    )
    Recipe(resharded).plan().run()
    expected = GPT2LMHeadModel.from_pretrained(source).generation_config
    for name in "cde":
        assert GPT2LMHeadModel.from_pretrained(tmp_path / name).generation_config == expected


def test_float64_is_rounded_and_said_to_be(sources: dict[str, Path], tmp_path: Path) -> None:
    model = GPT2LMHeadModel.from_pretrained(sources["bin"]).double()
    model.save_pretrained(tmp_path / "a")
    assert "float64 is written as float32" in convert(tmp_path / "a", tmp_path / "b").notes[0]


@pytest.mark.parametrize("to", ["hf", "mindformers"])
def test_nothing_is_overwritten(sources: dict[str, Path], tmp_path: Path, to: str) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(SpecError, match=r"a is there already.*G2-308"):
        convert(sources["bin"], tmp_path / "a", to=to)
    (tmp_path / "b.yaml").touch()
    if to == "mindformers":
        with pytest.raises(SpecError, match=r"b\.yaml is there already"):
            convert(sources["bin"], tmp_path / "b.ckpt", to=to)


@pytest.mark.parametrize(
    ("keys", "target", "said"),
    [
        ({"to": "hf"}, "a.ckpt", "expected a folder for hf, found a file's name; to = \"mindform"),
        ({"to": "peft", "merge": True}, "a", "merged weights are no adapter"),
        ({"to": "mindformers", "dtype": "bfloat16"}, "a", "MindFormers 0.8 reads no bfloat16"),
        ({"to": "peft"}, "a", "it holds no LoRA adapter"),
        ({"to": "mindformers"}, "a.CKPT", "expected a file that ends in .ckpt, or a folder"),
        ({"to": "mindformers"}, "a" * 300, "it can't be written: File name too long"),
        ({"max_shard_size": "many"}, "a", "expected a size such as 5GB or 200MB"),
    ],
)
def test_what_can_not_be_done_is_told_before_anything_is_written(
    sources: dict[str, Path], tmp_path: Path, keys: dict[str, Any], target: str, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        convert(sources["bin"], tmp_path / target, **keys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inner": 50}, "an inner width of 50, which is no multiple of"),
        ({"scale_attention": False}, "attention without a scale"),
        ({"epsilon": 1e-6}, "a layer norm's epsilon of 1e-06; its own is 1e-05"),
    ],
)
def test_a_network_that_mindformers_would_compute_otherwise_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    geometry = attrs.evolve(TINY, **{"inner": 0, **change})
    (tmp_path / "a").mkdir()
    huggingface.write(tmp_path / "a", geometry, random_weights(geometry))
    with pytest.raises(SpecError, match=f"MindFormers has no word for {said}"):
        convert(tmp_path / "a", tmp_path / "b", to="mindformers")


def test_erf_is_told_and_restored(tmp_path: Path) -> None:
    geometry = attrs.evolve(TINY, inner=0, activation="gelu")
    (tmp_path / "a").mkdir()
    huggingface.write(tmp_path / "a", geometry, random_weights(geometry))
    result = convert(tmp_path / "a", tmp_path / "b", to="mindformers")
    assert any("MindFormers has no gelu by erf" in note for note in result.notes)
    assert reading.read_info(tmp_path / "b").geometry == geometry


SLOW = """
import sys, time
from gpt2dsl import Recipe, Task
from gpt2dsl.weights.files import lazy_tensor
rows = lazy_tensor.FileTensor.rows
def slowly(self, first, last):
    print("reading", flush=True)
    time.sleep(0.05)
    return rows(self, first, last)
lazy_tensor.FileTensor.rows = slowly
Recipe(Task.convert(source=sys.argv[1], target=sys.argv[2], to=sys.argv[3])).plan().run()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize(("to", "name"), [("hf", "t"), ("mindformers", "t.ckpt")])
def test_an_interrupted_conversion_leaves_nothing_under_the_final_name(
    sources: dict[str, Path], tmp_path: Path, number: signal.Signals, to: str, name: str
) -> None:
    command = [sys.executable, "-c", SLOW, str(sources["bin"]), str(tmp_path / name), to]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        for _ in range(12):
            assert process.stdout.readline() == "reading\n"
        os.kill(process.pid, number)
        process.wait(20)
    assert process.returncode
    assert not (tmp_path / name).exists()
    convert(sources["bin"], tmp_path / name, to=to)
    found = [path.name for path in tmp_path.iterdir()]
    assert sorted(found) == sorted([name, *(["t.yaml"] if to == "mindformers" else [])])


def test_a_full_disk_is_one_line_and_leaves_nothing(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ckptfile, "write", full)
    with pytest.raises(RunError, match="it can't be written: No space left on device"):
        convert(sources["bin"], tmp_path / "a.ckpt", to="mindformers")
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_on_the_disk_is_refused_before_it_is_begun(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: (9, 9, 1000))
    for to, source in (("hf", "bin"), ("mindformers", "bin")):
        with pytest.raises(SpecError, match=r"0\.1 MB are to be written, .* has room for 0\.0"):
            convert(sources[source], tmp_path / "a", to=to)
    assert not list(tmp_path.iterdir())


def test_the_result_says_what_was_written_and_how_fast(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    started = time.perf_counter()
    result = convert(sources["bin"], tmp_path / "a")
    assert result.target == tmp_path / "a"
    arrays = reading.read(tmp_path / "a").arrays
    assert result.size == sum(array.nbytes for array in arrays.values())
    assert result.seconds is not None
    assert 0 < result.seconds < time.perf_counter() - started
    assert json.loads(json.dumps(result.to_json()))["task"] == "convert"
