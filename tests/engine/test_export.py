"""The task export: what it writes, refuses, and says it did not verify."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gpt2dsl import LoRA, Model, Recipe, Runtime, SpecError, Task, Train, load
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.exported import ExportedModel
from gpt2dsl.engine.job import Result
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.layout.params import param_specs
from gpt2dsl.lite import description, onnx_model, opening
from gpt2dsl.lite.shapes import IDS, LOGITS, VALID
from gpt2dsl.weights import store
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.formats.config import to_config
from tests.engine.conftest import text
from tests.engine.layouts import write_weights
from tests.judges import TINY, random_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("export") / "weights")


def export(weights: Path, target: Path, form: str = "onnx", **keys: Any) -> Result:
    task = Task.export(source=str(weights), target=str(target), format=form, **keys)
    return Recipe(task).plan().run()


def test_an_export_says_what_it_is(weights: Path, tmp_path: Path) -> None:
    result = export(weights, tmp_path / "there", seq_length=24, batch=3)
    store.verify(tmp_path / "there")
    said = json.loads((tmp_path / "there" / "export.json").read_text())
    assert (said["format"], said["dtype"], said["batch"], said["seq_length"]) == (
        "onnx", "float32", None, 24,
    )  # fmt: skip
    assert list(said["graphs"]) == ["text-generation-with-past"]
    graph = said["graphs"]["text-generation-with-past"]
    assert graph["file"] == "model.onnx"
    assert [(port["name"], port["shape"]) for port in graph["inputs"]][:2] == [
        ("input_ids", ["batch_size", "sequence_length"]),
        ("attention_mask", ["batch_size", "past_sequence_length + sequence_length"]),
    ]
    assert (said["network"]["layers"], said["network"]["inner"]) == (2, 128)
    assert max(said["verified"].values()) < 1e-4
    assert said["unverified"] == ""
    assert said["digest"] == store.manifest(tmp_path / "there")["meta"]["digest"]
    assert result.notes[-1].startswith("verified: in onnxruntime ")
    assert (tmp_path / "there" / "tokenizer.json").exists()
    assert description.read(tmp_path / "there").shapes.length == 24


def test_rows_of_an_onnx_export_are_no_choice(weights: Path, tmp_path: Path) -> None:
    task = Task.export(source=str(weights), target=str(tmp_path / "there"), format="onnx", batch=3)
    words = "task.batch changes nothing with task.format = onnx, whose model takes any number of"
    assert any(note.startswith(words) for note in Recipe(task).plan().notes)
    assert not Recipe(task.evolve(format="mindir")).plan().notes


def test_texts_of_onnx_and_mindir_are_those_of_mindspore(weights: Path, tmp_path: Path) -> None:
    prompts = ["the old cat", "a bird", "the", "under the tree and over"]
    expected = load(str(weights)).generate(prompts, max_new_tokens=12)
    for form, batch in (("onnx", 1), ("mindir", 1), ("mindir", 2)):
        target = tmp_path / f"{form} {batch}"
        export(weights, target, form, seq_length=32, batch=batch, dtype="float32")
        with ExportedModel.load(target) as model:
            assert model.generate(prompts, max_new_tokens=12) == expected
            with ThreadPoolExecutor(4) as pool:  # threads share it
                calls = pool.map(lambda one, m=model: m.generate([one], max_new_tokens=12), prompts)
                assert [text for texts in calls for text in texts] == expected


def test_an_adapter_is_merged_first(weights: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text(text(60))
    tuned = (
        Model(weights=str(weights))
        | LoRA(r=2, alpha=64)
        | Train(batch_size=4, seq_length=32, steps=4)
        | Runtime(output=str(tmp_path / "runs"))
        | Task.finetune(data=str(data))
    )
    run = tuned.plan().run().directory
    assert run
    result = export(run, tmp_path / "graph", seq_length=32)
    assert "the adapter is part of the weights now" in result.notes
    expected = load(str(run)).generate(["the old cat"], max_new_tokens=8)
    with ExportedModel.load(tmp_path / "graph") as model:
        assert model.generate(["the old cat"], max_new_tokens=8) == expected


@pytest.mark.parametrize("form", ["onnx", "mindir"])
def test_a_classifier_is_one_graph(tmp_path: Path, form: str) -> None:
    tokenizer = Tokenizer.train([text(400)], 320)
    geometry = attrs.evolve(TINY, inner=0, vocab=len(tokenizer), labels=3)
    folder = tmp_path / "weights"
    folder.mkdir()
    names = ("bad", "middling", "good")
    huggingface.write(folder, geometry, random_weights(geometry), tokenizer, names)
    export(folder, tmp_path / "graph", form, seq_length=20)
    described = description.read(tmp_path / "graph")
    graph = "text-classification" if form == "onnx" else "classify"
    assert list(described.files) == [graph]
    assert described.classes == names
    with opening.runtime(tmp_path / "graph", described) as runtime:
        feeds: dict[str, Any] = {IDS: np.ones((1, 20), np.int32), VALID: np.array([5], np.int32)}
        if form == "onnx":
            ones = np.ones((1, 5), np.int64)
            feeds = {"input_ids": ones, "attention_mask": ones}
        assert runtime.run(graph, feeds)[LOGITS].shape == (1, 3)
    with pytest.raises(InputError, match=f"it has no graphs with a cache, which generate: {graph}"):
        ExportedModel.load(tmp_path / "graph")


def test_ge_has_its_settings_for_both_processors(weights: Path, tmp_path: Path) -> None:
    for processor, has_format in (("910A", False), ("910B", True)):
        target = tmp_path / processor
        export(weights, target, "mindir", seq_length=8, ge=processor, cache=False)
        said = (target / "config.ini").read_text()
        assert "provider=ge\n" in said
        assert ("ge.exec.formatMode=1\n" in said) is has_format


def test_a_wrong_graph_is_not_kept(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "HIDDEN", 0.0)
    with pytest.raises(RunError, match=r"the exported graphs are wrong: in onnxruntime .*G2-533"):
        export(weights, tmp_path / "there", seq_length=16)
    assert not list(tmp_path.iterdir())


def test_what_could_not_be_verified_is_said(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "missing", lambda _: "onnxruntime is not installed")
    result = export(weights, tmp_path / "there", seq_length=16)
    assert result.notes == ("not verified: onnxruntime is not installed",)
    assert description.read(tmp_path / "there").unverified == "onnxruntime is not installed"
    with pytest.raises(InputError, match="onnxruntime is not installed"):
        ExportedModel.load(tmp_path / "there")


def huge(folder: Path) -> Path:
    """Weights of the 774M size, of which the disk holds nothing but the header."""
    geometry = Model(size="774m").geometry(vocab=50257, labels=0)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_config(geometry)))
    header: dict[str, Any] = {}
    place = 0
    for one in param_specs(geometry):
        end = place + 4 * one.size
        header[one.name] = {"dtype": "F32", "shape": one.shape, "data_offsets": [place, end]}
        place = end
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + place)
    return folder


def test_what_can_not_be_is_told_before_anything_is_written(weights: Path, tmp_path: Path) -> None:
    def refusal(source: Path, form: str, **keys: Any) -> str:
        with pytest.raises(SpecError) as error:
            export(source, tmp_path / "t", form, **keys)
        assert not (tmp_path / "t").exists()
        return str(error.value)

    assert "65 tokens are more than the model's 64 positions" in refusal(
        weights, "onnx", seq_length=65
    )
    assert "a prompt and one token after it need 2" in refusal(weights, "onnx", seq_length=1)
    assert "GE runs MindIR, this is onnx" in refusal(weights, "onnx", ge="910B")
    large = refusal(huge(tmp_path / "huge"), "ms")
    assert "3.1 GB of weights: a .ms is one flatbuffer" in large
    assert "onnx keeps weights in a file of their own" in large
    shutil.rmtree(tmp_path / "huge")
    (tmp_path / "there").mkdir()
    with pytest.raises(SpecError, match="is there already"):
        export(weights, tmp_path / "there")
    with pytest.raises(SpecError, match="expected one of"):
        Task.export(source="a", target="b", dtype="bfloat16")


def test_what_is_no_export_is_told(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it is no export: it has no export\.json"):
        ExportedModel.load(weights)
    export(weights, tmp_path / "there", seq_length=8)
    file = tmp_path / "there" / "model.onnx_data"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"model\.onnx_data: it is damaged"):
        ExportedModel.load(tmp_path / "there")


def test_ids_that_the_word_table_has_not_are_never_given_to_a_graph(
    weights: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(weights / name, bare)
    result = export(bare, tmp_path / "there", seq_length=8)
    assert "graphs take ids, lite run can't use them" in result.notes[0]
    with pytest.raises(
        InputError, match=r"GPT-2's own has 50257 entries where .* table has 3\d\d rows"
    ):
        ExportedModel.load(tmp_path / "there")


def test_half_the_bytes_and_what_rounding_does_is_told(weights: Path, tmp_path: Path) -> None:
    for dtype in ("float32", "float16"):
        result = export(weights, tmp_path / dtype, seq_length=8, dtype=dtype)
    sizes = [(tmp_path / d / "model.onnx_data").stat().st_size for d in ("float32", "float16")]
    assert sizes[0] == pytest.approx(2 * sizes[1], rel=0.02)
    assert result.notes[-1].startswith("rounding to float16 moves logits by up to ")
    assert result.notes[-2].startswith("verified: in onnxruntime ")


def test_values_that_are_not_finite_are_named_with_their_tensor(
    weights: Path, tmp_path: Path
) -> None:
    arrays = dict(load_file(weights / "model.safetensors"))
    arrays["transformer.ln_f.bias"][3] = np.nan
    broken = tmp_path / "broken"
    shutil.copytree(weights, broken)
    save_file(arrays, broken / "model.safetensors", {"format": "pt"})
    for form in ("onnx", "mindir"):
        with pytest.raises(InputError, match=r"NaN or infinite: transformer\.ln_f\.bias"):
            export(broken, tmp_path / form, form, seq_length=8)
        assert not (tmp_path / form).exists()


def test_files_are_for_everyone_to_read(weights: Path, tmp_path: Path) -> None:
    export(weights, tmp_path / "there", "mindir", seq_length=8)
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in (tmp_path / "there").iterdir())
