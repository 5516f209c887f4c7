"""ONNX in onnxruntime and MindIR in MindSpore against transformers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import onnx
import pytest

from gpt2dsl.engine.verification import verify
from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import ACTIVATIONS, GPT2Config
from gpt2dsl.lite import onnx_graph, opening
from gpt2dsl.lite.shapes import Shapes
from tests.judges import TINY
from tests.lite.graphs import exported, judge, real

CLASSIFIER = attrs.evolve(TINY, labels=3)
UNSCALED = attrs.evolve(TINY, scale_attention=False, epsilon=1e-3)
BY_LAYER = attrs.evolve(TINY, scale_by_layer=True, tied=False)


def largest(
    folder: Path, form: str, shapes: Shapes, *, cache: bool = True, kind: str = "F32"
) -> float:
    """The largest difference from transformers' logits."""
    described = exported(folder, form, shapes, cache=cache, kind=kind)
    with opening.runtime(folder, described) as runtime:
        return verify(
            runtime,
            shapes,
            tuple(described.files),
            judge(shapes.geometry, rounded=kind == "F16"),
            real(shapes.geometry),
        )


def test_an_export_of_the_same_weights_is_the_same_in_another_process(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from gpt2dsl.lite.shapes import Shapes\nfrom tests.judges import TINY\n"
        "from tests.lite.graphs import exported\n"
        "exported(Path(sys.argv[1]), 'onnx', Shapes(TINY, 1, 8))\n"
    )
    folders = [tmp_path / seed for seed in ("1", "2")]
    for folder in folders:
        folder.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": folder.name}
        subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, check=True)
    one, other = ({path.name: path.read_bytes() for path in f.iterdir()} for f in folders)
    assert one == other


@pytest.mark.parametrize("form", ["onnx", "fixed"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnx_computes_every_activation(tmp_path: Path, activation: str, form: str) -> None:
    geometry = attrs.evolve(TINY, activation=activation)
    assert largest(tmp_path, form, Shapes(geometry, 2, 20)) < 1e-5


@pytest.mark.parametrize(
    ("geometry", "cache"),
    [(TINY, False), (CLASSIFIER, True), (UNSCALED, True), (BY_LAYER, True)],
    ids=["whole", "classifier", "unscaled", "by-layer-untied"],
)
@pytest.mark.parametrize("form", ["onnx", "fixed", "mindir"])
def test_all_kinds_of_graphs_compute_what_transformers_does(
    tmp_path: Path, form: str, geometry: GPT2Config, *, cache: bool
) -> None:
    assert largest(tmp_path, form, Shapes(geometry, 3, 12), cache=cache) < 1e-5


NEAR = ("gelu_new", "gelu")


@pytest.mark.parametrize(
    "activation",
    [*NEAR, *(pytest.param(n, marks=pytest.mark.soak) for n in ACTIVATIONS if n not in NEAR)],
)
def test_mindir_loads_back_and_computes_the_same(tmp_path: Path, activation: str) -> None:
    geometry = attrs.evolve(TINY, activation=activation)
    assert largest(tmp_path, "mindir", Shapes(geometry, 2, 20)) < 1e-5


@pytest.mark.parametrize("form", ["onnx", "fixed", "mindir"])
def test_half_precision_rounds_the_weights_and_nothing_else(tmp_path: Path, form: str) -> None:
    assert largest(tmp_path, form, Shapes(TINY, 1, 12), kind="F16") < 1e-5


def test_all_graphs_of_fixed_shapes_share_one_file_of_weights(tmp_path: Path) -> None:
    described = exported(tmp_path, "fixed", Shapes(TINY, 1, 8))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["increment.onnx", "prefill.onnx", "weights.bin"]
    places = []
    for file in described.files.values():
        model = onnx.load(str(tmp_path / file), load_external_data=False)
        assert [opset.version for opset in model.opset_import] == [onnx_graph.OPSET]
        external = {
            one.name: {entry.key: entry.value for entry in one.external_data}
            for one in model.graph.initializer
            if one.external_data
        }
        places.append(external)
    assert places[0] == places[1]
    assert {place["location"] for place in places[0].values()} == {"weights.bin"}


def test_a_graph_of_fixed_shapes_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    shapes = Shapes(TINY, 2, 8)
    described = exported(tmp_path, "fixed", shapes)
    model = onnx.load(str(tmp_path / described.files["increment"]), load_external_data=False)
    ports = [
        (port.name, tuple(dim.dim_value for dim in port.type.tensor_type.shape.dim))
        for port in model.graph.input
    ]
    assert ports == [(port.name, port.shape) for port in shapes.inputs("increment")]
    assert ports[:3] == [("ids", (2, 1)), ("position", (2,)), ("key_0", (6, 8, 8))]


def test_a_graph_that_no_runtime_can_load_is_told(tmp_path: Path) -> None:
    for form, suffix in (("fixed", ".onnx"), ("mindir", ".mindir")):
        folder = tmp_path / form
        folder.mkdir()
        shapes = Shapes(TINY, 1, 8)
        described = exported(folder, form, shapes)
        (folder / f"prefill{suffix}").write_bytes(b"nothing of the kind")
        feeds = {port.name: np.ones(port.shape, port.dtype) for port in shapes.inputs("prefill")}
        runtime = opening.runtime(folder, described)
        with pytest.raises(InputError, match="can't load it"):
            runtime.run("prefill", feeds)
