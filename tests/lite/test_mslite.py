"""The real MindSpore Lite 2.0.0, in its own Python 3.7."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from gpt2dsl import Recipe, RunError, SpecError, Task, load, pipeline
from gpt2dsl.engine.exported import ExportedModel
from gpt2dsl.engine.verification import verify
from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import ACTIVATIONS
from gpt2dsl.lite import description, onnx_graph, opening, setup
from gpt2dsl.lite.runtimes.mslite import LiteRuntime, WorkerProcess
from gpt2dsl.lite.shapes import Shapes
from tests.engine.layouts import write_weights
from tests.judges import TINY
from tests.lite.environment import lite_cache
from tests.lite.graphs import exported, judge, real

PROMPTS = [
    "the old cat", "a bird sang", "the", "young dog ran", "under the tree and", "mat", "roof then",
    "the dog sat on a", "over", "and the bird",
]  # fmt: skip


@pytest.fixture(autouse=True)
def lite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2DSL_CACHE", str(lite_cache()))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("lite") / "weights")


def export(weights: Path, target: Path, **keys: Any) -> Any:
    task = Task.export(source=str(weights), target=str(target), **keys)
    return Recipe(task).plan().run()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lite_computes_every_activation_as_transformers_does(
    tmp_path: Path, activation: str
) -> None:
    shapes = Shapes(attrs.evolve(TINY, activation=activation), 2, 20)
    described = exported(tmp_path, "ms", shapes)
    with opening.runtime(tmp_path, described) as runtime:
        largest = verify(
            runtime, shapes, tuple(described.files), judge(shapes.geometry), real(shapes.geometry)
        )
    assert largest < 1e-4
    assert runtime.name == "MindSpore Lite 2.0.0"


@pytest.mark.parametrize("labels", [0, 3], ids=["whole", "classifier"])
def test_graphs_without_a_cache_too(tmp_path: Path, labels: int) -> None:
    shapes = Shapes(attrs.evolve(TINY, labels=labels), 2, 12)
    described = exported(tmp_path, "ms", shapes, cache=False, kind="F16")
    with opening.runtime(tmp_path, described) as runtime:
        reference = judge(shapes.geometry, rounded=True)
        largest = verify(runtime, shapes, tuple(described.files), reference, real(shapes.geometry))
    assert largest < 1e-4


def test_texts_are_those_of_mindspore_greedy_sampled_and_by_beams(
    weights: Path, tmp_path: Path
) -> None:
    lm = load(str(weights))
    for form in ("ms", "onnx"):
        result = export(weights, tmp_path / f"{form} ü", format=form, seq_length=48, batch=2)
        assert "verified" in result.notes[-1]
        with ExportedModel.load(tmp_path / f"{form} ü") as model:
            for keys in (
                {"max_new_tokens": 32},
                {"max_new_tokens": 12, "do_sample": True, "top_k": 20, "seed": 5},
                {"max_new_tokens": 8, "beams": 2},
            ):
                assert model.generate(PROMPTS, **keys) == lm.generate(PROMPTS, **keys)
            streamed = "".join(model.stream("the old cat", max_new_tokens=12))
            assert "the old cat" + streamed == lm.generate(["the old cat"], max_new_tokens=12)[0]


def test_the_pipeline_takes_an_export(weights: Path, tmp_path: Path) -> None:
    export(weights, tmp_path / "ms", format="ms", seq_length=32)
    lite = pipeline("text_generation", str(tmp_path / "ms"), backend="mslite", max_new_tokens=6)
    ours = pipeline("text_generation", str(weights), max_new_tokens=6)
    assert lite("the old cat") == ours("the old cat")
    with pytest.raises(ValueError, match="expected ms or mslite, found 'onnx'"):
        pipeline("text_generation", str(weights), backend="onnx")
    lite.model.runtime.close()  # type: ignore[attr-defined]


def test_half_precision_rounds_and_is_told_to_save_nothing(weights: Path, tmp_path: Path) -> None:
    result = export(weights, tmp_path / "ms", format="ms", seq_length=8, dtype="float16")
    assert "Lite's converter widens float16" in result.notes[0]
    assert result.notes[-1].startswith("rounding to float16 moves logits by up to ")


def squared(self: Any, x: str, name: str) -> str:
    """The layer norm as MindSpore's own export writes it: the sum of squares in one operator."""
    centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1], keepdims=1))
    total = self.op("ReduceSumSquare", centred, axes=[-1], keepdims=1)
    variance = self.op("Div", total, self.number(float(self.geometry.hidden)))
    sigma = self.op("Sqrt", self.op("Add", variance, self.number(self.geometry.epsilon)))
    scaled = self.op("Mul", self.op("Div", centred, sigma), self.weight(f"{name}.weight"))
    return str(self.op("Add", scaled, self.weight(f"{name}.bias")))


def test_a_converter_that_says_success_over_wrong_numbers_is_caught(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph._Graph, "norm", squared)
    right = export(weights, tmp_path / "onnx", format="onnx", seq_length=16)
    assert "verified" in right.notes[-1]
    with pytest.raises(RunError, match=r"in MindSpore Lite 2\.0\.0 a logit differs by .*G2-533"):
        export(weights, tmp_path / "ms", format="ms", seq_length=16)
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


def test_a_killed_worker_is_one_line(tmp_path: Path) -> None:
    shapes = Shapes(TINY, 1, 8)
    described = exported(tmp_path, "ms", shapes)
    feeds = {port.name: np.ones(port.shape, port.dtype) for port in shapes.inputs("prefill")}
    with LiteRuntime(tmp_path, described) as runtime:
        runtime.run("prefill", feeds)
        shared = runtime._shared
        assert isinstance(runtime.worker, WorkerProcess)
        os.kill(runtime.worker.pid, signal.SIGKILL)
        with pytest.raises(RunError, match=r"worker ended \(signal 9\) while it was to run"):
            runtime.run("prefill", feeds)
    assert not shared.exists()


def test_a_model_of_another_shape_and_a_damaged_file_are_told(
    weights: Path, tmp_path: Path
) -> None:
    export(weights, tmp_path / "ms", format="ms", seq_length=16)
    described = description.read(tmp_path / "ms")
    other = attrs.evolve(described, shapes=attrs.evolve(described.shapes, length=24))
    with LiteRuntime(tmp_path / "ms", other) as runtime:
        feeds = {p.name: np.ones(p.shape, p.dtype) for p in other.shapes.inputs("prefill")}
        with pytest.raises(InputError, match=r"others than export\.json says"):
            runtime.run("prefill", feeds)
    file = tmp_path / "ms" / "prefill.ms"
    file.write_bytes(file.read_bytes()[:-8] + b"12345678")
    with pytest.raises(InputError, match=r"prefill\.ms: it is damaged: its checksum"):
        ExportedModel.load(tmp_path / "ms")
    with LiteRuntime(tmp_path / "ms", described) as runtime:
        file.write_bytes(b"no model")
        with pytest.raises(RunError, match="MindSpore Lite: "):
            runtime.run("prefill", feeds)


def test_more_beams_than_rows_and_texts_longer_than_the_graph_are_refused(
    weights: Path, tmp_path: Path
) -> None:
    export(weights, tmp_path / "ms", format="ms", seq_length=16)
    with ExportedModel.load(tmp_path / "ms") as model:
        with pytest.raises(SpecError, match="2 beams need an export of such a batch"):
            model.generate(["the"], beams=2)
        with pytest.raises(InputError, match="with one to generate 15 fit"):
            model.generate(["the old cat sat on the mat and " * 4])
        assert len(model.tokenizer.encode(model.generate(["the"], max_new_tokens=99)[0])) <= 16


def test_setting_up_twice_is_setting_up_once() -> None:
    before = (setup.environment() / "bin" / "python").stat().st_mtime_ns
    assert setup.set_up() == setup.environment()
    assert (setup.environment() / "bin" / "python").stat().st_mtime_ns == before
