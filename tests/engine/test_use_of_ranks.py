"""A run of several ranks, whose checkpoints hold a file a rank, used as any other run is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.numpy import load_file

import gpt2dsl
from gpt2dsl import Parallel, Recipe, Task
from gpt2dsl.cli.main import cli
from gpt2dsl.weights import reading, store, training_state
from tests.engine.conftest import small_recipe
from tests.engine.layouts import Outcome

PROMPT = "the old cat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    made = small_recipe(folder).replace(Parallel(dp=2))
    for key, value in {"steps": 4, "save_every": 2, "evaluate_every": 0, "export": "hf"}.items():
        made = made.set(f"train.{key}", value)
    return made.set("runtime.output", str(folder / "runs"))


@pytest.fixture(scope="module")
def run(folder: Path, recipe: Recipe) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT2DSL_CACHE", str(folder / "cache"))
        return Outcome(recipe.plan().run())


def weights_of(folder: Path) -> dict[str, NDArray[np.float32]]:
    return dict(reading.read(folder).arrays)


def said(*words: object) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_its_checkpoints_hold_a_file_a_rank_and_are_whole(run: Outcome) -> None:
    checkpoint = run.result.checkpoint
    assert checkpoint
    files = set(store.manifest(checkpoint)["files"])
    assert {"rank_0/model.safetensors", "rank_1/model.safetensors", "state.json"} <= files
    assert not {"model.safetensors", "optimizer.safetensors"} & files
    assert not [name for name in files if name.startswith(".")]
    for _, folder in store.steps(checkpoint.parent):
        store.verify(folder)


def test_its_weights_for_transformers_are_those_of_its_last_checkpoint(run: Outcome) -> None:
    assert run.result.checkpoint
    assert run.result.directory
    target = run.result.directory / "hf"
    assert run.result.target == target
    found, expected = load_file(target / "model.safetensors"), weights_of(run.result.checkpoint)
    assert found.keys() == expected.keys()
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
    assert json.loads((target / "config.json").read_text())["model_type"] == "gpt2"


def test_it_is_inspected_converted_and_resharded(run: Outcome, tmp_path: Path) -> None:
    place = run.result.directory
    assert place
    described = json.loads(said("inspect", place, "--json"))
    states, _ = training_state.read(run.result.checkpoint or place)
    assert described["training_state"] == len(states)
    assert not described["faults"]
    assert not described["missing"]
    said("convert", place, tmp_path / "hf", "--to", "hf")
    said("reshard", place, tmp_path / "other", "--to", "dp=1,mp=2,pp=2", "--optimizer")
    said("reshard", tmp_path / "other", tmp_path / "whole", "--to", "dp=1", "--optimizer")
    assert (tmp_path / "hf" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    moments = load_file(tmp_path / "whole" / "optimizer.safetensors")
    assert all(moments[name].tobytes() == states[name].load().tobytes() for name in states)


def test_it_generates_evaluates_and_loads_as_a_folder_for_transformers(
    folder: Path, recipe: Recipe, run: Outcome
) -> None:
    place = run.result.directory
    assert place
    texts = [
        said("generate", weights, "--prompt", PROMPT, "--max-new-tokens", "5")
        for weights in (place, place / "hf")
    ]
    assert texts[0] == texts[1]
    ids = np.arange(8, dtype=np.int32)[None]
    logits = [gpt2dsl.load(str(weights)).logits(ids) for weights in (place, place / "hf")]
    assert np.array_equal(logits[0], logits[1])
    losses = []
    for weights in (place, place / "hf"):
        measured = recipe.replace(
            gpt2dsl.Model(weights=str(weights)),
            gpt2dsl.Data(),
            Parallel(),
            Task.evaluate(data=str(folder / "valid.txt")),
        ).set("train.export", "none")
        losses.append(measured.plan().run().loss)
    assert losses[0] == losses[1]


def test_it_is_listed_compared_and_not_repeated(run: Outcome, recipe: Recipe) -> None:
    place = run.result.directory
    assert place
    assert place.name in said("runs", place.parent)
    said("diff", place, place)
    (checkpoint,) = [folder for _, folder in store.steps(place / "checkpoints")][-1:]
    before = (checkpoint / store.MANIFEST).stat().st_mtime_ns
    again = recipe.plan().run()
    assert again.checkpoint == checkpoint
    assert (checkpoint / store.MANIFEST).stat().st_mtime_ns == before


def test_a_resume_on_one_process_goes_on_from_its_files(run: Outcome, recipe: Recipe) -> None:
    longer = recipe.replace(Parallel()).set("train.resume", str(run.result.checkpoint))
    result = longer.set("train.steps", 5).plan().run()
    assert result.steps == 5
    assert result.checkpoint
    assert (result.checkpoint / "model.safetensors").exists()


@pytest.mark.soak
def test_it_is_a_stage_of_a_chain(folder: Path, recipe: Recipe) -> None:
    data = str(folder / "valid.txt")
    evaluation = gpt2dsl.Train(batch_size=4, seq_length=32) | Task.evaluate(data=data)
    chain = recipe.set("train.steps", 3) >> evaluation
    first, second = chain.plan().run().stages
    assert first.ran
    assert second.ran
    assert not any(stage.ran for stage in chain.plan().run().stages)
