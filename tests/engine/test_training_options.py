"""Runs with adapters, micro-batches, half precision, early stop, and a team's own callbacks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mindspore import Tensor
from peft import PeftModel
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import GPT2LMHeadModel

import gpt2dsl
from gpt2dsl import (
    Callback,
    Classifier,
    Data,
    LoRA,
    Optim,
    Parallel,
    Precision,
    Recipe,
    RunError,
    Start,
    Task,
)
from gpt2dsl.cli.main import cli
from gpt2dsl.engine.job import Result
from gpt2dsl.engine.scores import ClassificationMetrics
from gpt2dsl.library import runs
from gpt2dsl.parts import Model
from gpt2dsl.training import step
from gpt2dsl.weights import store

LORA = LoRA(r=3, alpha=6, dropout=0.2, targets="[qv]|mlp.c_proj")
HALF = Precision(params="float16", compute="float16")


def short(recipe: Recipe, output: Path, **train: Any) -> Recipe:
    """Six steps, a checkpoint after three, nothing held out."""
    task: Any = recipe.parts["task"]
    settings = {"steps": 6, "save_every": 3, "evaluate_every": 0, **train}
    for key, value in settings.items():
        recipe = recipe.set(f"train.{key}", value)
    return recipe.set("runtime.output", str(output)).replace(type(task)(data=task.data))


def with_lora(recipe: Recipe, trained: Result) -> Recipe:
    model = Model(weights=str(trained.checkpoint), dropout=0.1)
    task: Any = recipe.parts["task"]
    return (
        recipe.replace(model, LORA, Task.finetune(data=task.data))
        .set("data.tokenizer", "auto")
        .set("optim.lr", 1e-2)
    )


def variants(recipe: Recipe, trained: Result) -> dict[str, Recipe]:
    return {
        "dropout": recipe,
        "lora": with_lora(recipe, trained),
        "micro-batches": recipe.replace(Parallel(micro_batches=2), Optim(name="sgd", lr=0.1)),
        "float16": recipe.replace(HALF),
        "lora, micro-batches, float16, recompute": with_lora(recipe, trained).replace(
            Parallel(micro_batches=2, recompute="full"), HALF
        ),
    }


def tensors(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= {f"{path.name} {name}": array for name, array in load_file(path).items()}
    return found


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [loss for line in lines if (loss := json.loads(line).get("loss"))]


@pytest.mark.parametrize(
    "name",
    ["dropout", "lora", "micro-batches", "float16", "lora, micro-batches, float16, recompute"],
)
def test_half_of_the_steps_and_a_resume_in_a_new_process_are_bit_for_bit_all_steps(
    recipe: Recipe, trained: Result, tmp_path: Path, name: str
) -> None:
    whole = short(variants(recipe, trained)[name], tmp_path / "whole").plan().run()
    assert whole.directory
    assert whole.checkpoint
    again = short(variants(recipe, trained)[name], tmp_path / "again")
    spec = tmp_path / "spec.toml"
    spec.write_text(again.to_toml(), encoding="utf-8")
    there = Path(again.plan().directory)
    there.parent.mkdir()
    shutil.copytree(whole.directory, there)
    shutil.rmtree(there / "checkpoints" / "step-6")
    found = Path(Recipe.load(str(spec)).plan().directory)
    there.rename(found)
    command = [sys.executable, "-m", "gpt2dsl", "run", str(spec)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "step 3 of 6" in run.stderr
    assert losses(found) == losses(whole.directory)
    expected = tensors(whole.checkpoint)
    resumed = tensors(found / "checkpoints" / "step-6")
    assert resumed.keys() == expected.keys()
    for tensor, array in resumed.items():
        np.testing.assert_array_equal(array, expected[tensor])
    state = [
        json.loads((folder / "state.json").read_text())
        for folder in (found / "checkpoints" / "step-6", whole.checkpoint)
    ]
    assert state[0] == state[1]


@pytest.fixture(scope="module")
def adapted(recipe: Recipe, trained: Result, tmp_path_factory: pytest.TempPathFactory) -> Result:
    output = tmp_path_factory.mktemp("adapted")
    return short(with_lora(recipe, trained), output, steps=30).plan().run()


def test_adapters_learn_and_their_checkpoint_is_peft_s(adapted: Result, trained: Result) -> None:
    assert adapted.checkpoint
    assert adapted.directory
    first, *_, last = losses(adapted.directory)
    assert last < first
    names = {path.name for path in adapted.checkpoint.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} < names
    assert "model.safetensors" not in names
    config = json.loads((adapted.checkpoint / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(trained.checkpoint)
    base = GPT2LMHeadModel.from_pretrained(trained.checkpoint, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, adapted.checkpoint).eval()
    ours = gpt2dsl.load(str(adapted.directory))
    ids = ours.tokenizer.encode("the old cat sat on the mat")
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits.numpy()
    assert np.abs(ours.logits([ids]) - expected).max() < 1e-4
    plain = gpt2dsl.load(str(trained.checkpoint))
    assert np.abs(ours.logits([ids]) - plain.logits([ids])).max() > 1e-2


def test_several_adapters_go_on_one_base_and_each_can_be_merged(
    adapted: Result, trained: Result, recipe: Recipe, tmp_path: Path
) -> None:
    other = short(with_lora(recipe, trained).set("train.seed", 3), tmp_path).plan().run()
    one, two = (gpt2dsl.load(str(run.checkpoint)) for run in (adapted, other))
    ids = one.tokenizer.encode("the old cat sat on the mat")
    assert np.abs(one.logits([ids]) - two.logits([ids])).max() > 1e-3
    merged = tmp_path / "merged"
    command = ["convert", str(adapted.checkpoint), str(merged), "--to", "hf", "--merge"]
    assert CliRunner().invoke(cli, command).exit_code == 0
    assert np.abs(gpt2dsl.load(str(merged)).logits([ids]) - one.logits([ids])).max() < 1e-5


@pytest.mark.parametrize("recompute", ["full", "selective"])
def test_what_is_computed_again_changes_no_loss_and_no_sample(
    recipe: Recipe, trained: Result, tmp_path: Path, recompute: str
) -> None:
    again = recipe.replace(Parallel(recompute=recompute)).set("runtime.output", str(tmp_path))
    result = again.plan().run()
    assert result.directory
    assert trained.directory
    assert losses(result.directory) == pytest.approx(losses(trained.directory), rel=1e-5)
    assert result.loss == pytest.approx(trained.loss, rel=1e-5)
    page = (result.directory / "report.html").read_text(encoding="utf-8")
    assert "What it writes" in page


def test_adapters_of_a_base_that_changed_are_not_resumed(
    trained: Result, recipe: Recipe, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    assert trained.checkpoint
    shutil.copytree(trained.checkpoint, base)
    (base / "manifest.json").unlink()
    run = short(with_lora(recipe, trained).set("model.weights", str(base)), tmp_path)
    run.plan().run()
    result = run.plan()
    shutil.rmtree(Path(result.directory) / "checkpoints" / "step-6")
    content = bytearray((base / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (base / "model.safetensors").write_bytes(content)
    with pytest.raises(RunError, match=r"changed since .*: the contents of model\.weights"):
        run.plan().run()


def test_a_classifier_s_head_is_trained_beside_its_adapters(
    trained: Result, tmp_path: Path
) -> None:
    rows = [{"text": f"{word} {i}", "label": i % 2} for i in range(40) for word in ("cat", "dog")]
    for row in rows:
        row["text"] = ("good " if row["label"] else "bad ") + str(row["text"])
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    recipe = (
        Model(weights=str(trained.checkpoint), dropout=0.0)
        | Classifier(labels=["bad", "good"])
        | LoRA(r=4, targets=".*c_.*")
        | Data(format="jsonl")
        | gpt2dsl.Train(batch_size=8, seq_length=16, steps=80)
        | Optim(lr=1e-2)
        | gpt2dsl.Runtime(output=str(tmp_path / "runs"))
        | Task.finetune(data=str(data), eval_data=str(data))
    )
    result = recipe.plan().run()
    assert isinstance(result.scores, ClassificationMetrics)
    assert result.scores.accuracy > 0.95
    assert result.checkpoint
    held = load_file(result.checkpoint / "adapter_model.safetensors")
    assert "base_model.model.score.weight" in held
    again = recipe.replace(Task.evaluate(data=str(data))).set(
        "model.weights", str(result.checkpoint)
    )
    parts = {table: part for table, part in again.parts.items() if table != "lora"}
    measured = Recipe(*parts.values()).plan().run()
    assert isinstance(measured.scores, ClassificationMetrics)
    assert measured.scores.accuracy == result.scores.accuracy
    assert measured.loss == pytest.approx(result.loss, rel=1e-5)


class Told(Callback):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def on_start(self, start: Start) -> None:
        assert Recipe.from_toml(start.recipe).parts["train"].steps == start.steps  # type: ignore[attr-defined]
        assert start.directory.name.startswith(f"{start.name}-")
        self.said.append(("start", start.step))

    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        assert {"loss", "lr", "gradient_norm", "tokens_per_second"} <= metrics.keys()
        self.said.append(step)

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        assert "eval_loss" in metrics
        self.said.append(("eval", step))

    def on_checkpoint(self, step: int, folder: Path) -> None:
        store.verify(folder)
        self.said.append(("saved", step))

    def on_end(self, result: Result) -> None:
        self.said.append(result.steps)


def test_callbacks_are_told_of_checkpoints_of_the_background_once_they_are_sealed(
    recipe: Recipe, tmp_path: Path
) -> None:
    told = Told()
    run = recipe.set("runtime.output", str(tmp_path)).set("train.steps", 6)
    run.set("train.save_every", 2).set("train.evaluate_every", 3).plan().run(callbacks=[told])
    saved = [("saved", step) for step in (2, 4, 6)]
    assert [event for event in told.said if event in saved] == saved
    for event in saved:
        assert told.said.index(event[1]) < told.said.index(event)
    others = [event for event in told.said if event not in saved]
    assert others == [("start", 0), ("eval", 0), 1, 2, 3, ("eval", 3), 4, 5, 6, ("eval", 6), 6]
    assert told.said[-1] == 6  # the end


def test_callbacks_are_told_in_order_and_events_are_written_for_tensorboard(
    recipe: Recipe, tmp_path: Path
) -> None:
    told = Told()
    run = recipe.set("runtime.output", str(tmp_path)).set("runtime.tensorboard", True)
    run = run.set("train.steps", 6).set("train.evaluate_every", 3).set("train.save_every", 4)
    run = run.set("train.async_save", False)
    result = run.plan().run(callbacks=[told])
    assert told.said == [
        ("start", 0), ("eval", 0), 1, 2, 3, ("eval", 3), 4, ("saved", 4), 5, 6, ("saved", 6),
        ("eval", 6), 6,
    ]  # fmt: skip
    again = Told()
    run.plan().run(callbacks=[again])
    assert again.said == [("start", 6), 6]  # each checkpoint is told once, when it is written
    events = EventAccumulator(str(result.directory))
    events.Reload()
    assert {"train/loss", "train/lr", "eval/loss"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("eval/loss")] == [0, 3, 6]
    assert result.directory
    written = [event.value for event in events.Scalars("train/loss")]
    assert written == pytest.approx(losses(result.directory))


def test_callbacks_stand_beside_a_recipe_in_its_module_and_profile_names_operators(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = short(recipe, tmp_path / "runs", steps=12)
    (tmp_path / "ours_to_run.py").write_text(
        "from gpt2dsl import *\n"
        "class Say(Callback):\n"
        "    def on_end(self, result):\n"
        "        print('told', result.steps)\n"
        "callbacks = [Say()]\n"
        f"recipe = {run!r}\n"
    )
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["run", "ours_to_run:recipe", "--profile"])
    assert done.stdout.startswith("told 12")
    assert "profile of 5 steps, operators by time a step" in done.stderr
    assert "x  MatMul" in done.stderr


@pytest.mark.parametrize("patience", [0, 2])
def test_the_best_checkpoint_is_kept_and_patience_ends_a_run_that_gets_worse(
    recipe: Recipe, tmp_path: Path, patience: int
) -> None:
    run = recipe.set("optim.lr", 0.5).set("runtime.output", str(tmp_path))
    run = run.set("schedule.warmup", 0.5).set("train.keep", 1).set("train.best", True)
    run = run.set("train.evaluate_every", 1).set("train.patience", patience)
    result = run.plan().run()
    assert result.directory
    assert result.best
    lines = (result.directory / "metrics.jsonl").read_text().splitlines()
    held_out = {line["step"]: line["eval_loss"] for line in map(json.loads, lines)
                if "eval_loss" in line}  # fmt: skip
    best = min((step for step in held_out if step), key=lambda step: held_out[step])
    assert result.best.name == f"step-{best}"
    store.verify(result.best)
    saved = [step for step, _ in store.steps(result.directory / "checkpoints")]
    assert saved == sorted({best, result.steps})
    if patience:
        assert result.steps == best + patience < 12
        again = run.plan().run()
        assert (again.steps, again.best, again.loss) == (result.steps, result.best, result.loss)
        said = f"done early, at step {result.steps} of 12"
        assert (str(runs.read(result.directory)), result.stopped_early) == (said, True)
    else:
        assert (result.steps, result.stopped_early) == (12, False)
    worse = held_out[best] > held_out[0]
    assert ("at no evaluation was the loss on eval_data as low" in str(result)) == worse
    assert ("higher" in str(result)) == (held_out[result.steps] > held_out[0])


def test_an_overflow_is_counted_and_the_run_goes_on(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = step.TrainStep.step

    def overflowing(step: Any, batch: Any, lr: float) -> Any:
        if step.steps == 1:
            step.scale.value = 2.0**60
        found = real(step, batch, lr)
        if step.steps == 2:
            step.scale.value = 2.0**15
        return found

    monkeypatch.setattr(step.TrainStep, "step", overflowing)
    result = short(recipe.replace(HALF), tmp_path).plan().run()
    assert (result.steps, result.skipped) == (6, 1)
    assert "skipped     1 of 6 steps" in str(result)
    assert result.directory
    lines = list(map(json.loads, (result.directory / "metrics.jsonl").read_text().splitlines()))
    assert [line.get("skipped") for line in lines] == [None, 1, None, None, None, None]
    assert "gradient_norm" not in lines[1]
    # the schedule is held back: the step after the skipped one has its rate, as in Trainer
    rates = [line["lr"] for line in lines]
    assert rates[2] == rates[1]
    assert len(set(rates)) == 5
    weights = load_file(result.checkpoint / "model.safetensors") if result.checkpoint else {}
    assert {array.dtype.name for array in weights.values()} == {"float16"}


@pytest.mark.parametrize("change", [lambda r: r, lambda r: r.replace(HALF)])
def test_a_loss_that_is_no_number_stops_with_the_step_the_rows_and_the_last_checkpoint(
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Recipe], Recipe],
) -> None:
    real = step.TrainStep.step

    def spoilt(step: Any, batch: Any, lr: float) -> Any:
        if step.steps == 4:
            parameter = step.network.by_name["transformer.ln_f.bias"]
            parameter.set_data(Tensor(np.full(parameter.shape, np.nan, np.float32)))
        return real(step, batch, lr)

    monkeypatch.setattr(step.TrainStep, "step", spoilt)
    with pytest.raises(RunError) as caught:
        short(change(recipe), tmp_path).plan().run()
    said = str(caught.value)
    assert "\n" not in said
    assert "step 5: loss nan" in said
    assert "; rows " in said
    assert "step-3" in said
