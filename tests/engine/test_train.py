from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoTokenizer, GPT2LMHeadModel
from typing_extensions import override

import gpt2dsl
from gpt2dsl import Callback, Interrupted, Model, Recipe, RunError, Runtime, SpecError, Task, Train
from gpt2dsl.engine.held_out import HeldOut
from gpt2dsl.engine.interrupt import StopRequest
from gpt2dsl.engine.job import Result
from gpt2dsl.engine.rundir import RunDirectory
from gpt2dsl.identity.identity import Identity
from gpt2dsl.weights import store
from tests.engine.conftest import small_recipe


def metrics(result: Result) -> list[dict[str, Any]]:
    assert result.directory
    lines = (result.directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_run_directory_has_what_the_contract_says(trained: Result) -> None:
    assert trained.directory
    assert {path.name for path in trained.directory.iterdir()} >= {
        "plan.json", "recipe.toml", "metrics.jsonl", "checkpoints", "report.html", "result.json",
    }  # fmt: skip
    steps = [step for step, _ in store.steps(trained.directory / "checkpoints")]
    assert steps == [5, 10, 12]
    for _, folder in store.steps(trained.directory / "checkpoints"):
        store.verify(folder)


def test_the_recipe_of_a_run_is_the_recipe(trained: Result, recipe: Recipe) -> None:
    assert trained.directory
    text = (trained.directory / "recipe.toml").read_text(encoding="utf-8")
    assert Recipe.from_toml(text) == recipe
    plan = json.loads((trained.directory / "plan.json").read_text(encoding="utf-8"))
    assert plan["digest"] == recipe.digest
    assert plan["batches"]["steps"] == 12


def test_training_lowers_the_loss_of_held_out_text(trained: Result) -> None:
    assert trained.perplexity
    assert trained.perplexity_before
    assert trained.perplexity < trained.perplexity_before / 1.2
    assert trained.loss == pytest.approx(np.log(trained.perplexity))


def test_every_step_and_evaluation_has_its_line_of_metrics(trained: Result) -> None:
    lines = metrics(trained)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in lines if "eval_loss" in line] == [0, 6, 12]
    assert lines[1]["lr"] == 0.0


def test_an_evaluation_within_a_training_is_one_line_where_lines_are_printed(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.set("train.steps", 2).set("runtime.output", str(tmp_path)).plan().run()
    lines = capsys.readouterr().err.splitlines()
    held_out = [line.partition(" loss")[0] for line in lines if "held-out" in line]
    assert held_out == ["step 0: held-out", "step 2: held-out"]
    assert not any(line.startswith("evaluating") for line in lines)


def test_the_report_needs_nothing_else_and_shows_what_was_learned(trained: Result) -> None:
    assert trained.directory
    page = (trained.directory / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 6  # the loss over steps, tokens and minutes, and three more
    for words in ("over steps", "over tokens", "over minutes", "prefers-color-scheme: dark"):
        assert words in page
    assert f"gpt2dsl generate {trained.checkpoint} --prompt" in page
    assert f"fell from {trained.perplexity_before:,.2f} to {trained.perplexity:,.2f}" in page
    for words in ("computing steps", "data and dropout masks", "evaluation", "checkpoints"):
        assert f"<tr><td>{words}</td>" in page
    assert "Peak memory of the process" in page
    assert "It went on from" not in page
    assert "http-equiv" not in page
    assert "<script" not in page
    assert 'src="' not in page
    assert "nats per token" in page


def test_the_report_lists_what_decides_the_result_entry_by_entry(trained: Result) -> None:
    assert trained.directory
    assert trained.checkpoint
    page = (trained.directory / "report.html").read_text(encoding="utf-8")
    state = json.loads((trained.checkpoint / "state.json").read_text(encoding="utf-8"))
    assert state["layout"] == "1 rank"
    identity = Identity.from_json(state["identity"])
    assert {"task.data", "task.eval_data", "data.tokenizer"} <= set(identity.contents)
    for key, words in identity.rows():
        assert f"<tr><td>{key}</td><td>{html.escape(words)}</td></tr>" in page


def test_a_checkpoint_loads_in_transformers_and_gives_the_same_logits(trained: Result) -> None:
    model, info = GPT2LMHeadModel.from_pretrained(
        trained.checkpoint, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = AutoTokenizer.from_pretrained(trained.checkpoint)
    ours = gpt2dsl.load(str(trained.checkpoint))
    said = "The old cat sat on the mat, then ran. Über <|endoftext|> 猫"
    ids = tokenizer(said)["input_ids"]
    assert ours.tokenizer.encode(said) == ids
    with torch.no_grad():
        expected = model.eval()(torch.tensor([ids])).logits.numpy()
    assert abs(ours.logits([ids]) - expected).max() < 1e-5


def test_evaluate_is_the_token_weighted_loss_that_transformers_gives(
    trained: Result, folder: Path
) -> None:
    recipe = Recipe.from_toml(f"""
        [model]
        weights = "{trained.checkpoint}"
        [train]
        batch_size = 4
        seq_length = 32
        [runtime]
        output = "{folder / "evaluated"}"
        [task]
        kind = "evaluate"
        data = "{folder / "valid.txt"}"
    """)
    result = recipe.plan().run()
    model = GPT2LMHeadModel.from_pretrained(trained.checkpoint).eval()
    tokenizer = gpt2dsl.load(str(trained.checkpoint)).tokenizer
    ids = [*tokenizer.encode((folder / "valid.txt").read_text()), tokenizer.eos]
    total = 0.0
    for start in range(0, len(ids) - 1, 32):
        row = torch.tensor([ids[start : start + 33]])
        with torch.no_grad():
            logits = model(row[:, :-1]).logits[0]
        total += torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum").item()
    assert result.tokens == len(ids) - 1
    assert result.loss == pytest.approx(total / (len(ids) - 1), rel=1e-5)
    assert result.loss == pytest.approx(trained.loss, rel=1e-6)


def test_a_resumed_run_ends_bit_for_bit_where_an_undisturbed_one_does(
    trained: Result, recipe: Recipe
) -> None:
    assert trained.directory
    assert trained.checkpoint
    before = load_file(trained.checkpoint / "model.safetensors")
    moments = load_file(trained.checkpoint / "optimizer.safetensors")
    losses = [line.get("loss") for line in metrics(trained)]
    shutil.rmtree(trained.checkpoint)
    damaged = trained.checkpoint.with_name("step-10") / "model.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    again = recipe.plan().run()
    assert [line.get("loss") for line in metrics(again)] == losses
    for name, array in load_file(trained.checkpoint / "model.safetensors").items():
        np.testing.assert_array_equal(array, before[name])
    for name, array in load_file(trained.checkpoint / "optimizer.safetensors").items():
        np.testing.assert_array_equal(array, moments[name])


def test_a_finished_run_says_so_and_makes_nothing_again(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plan = recipe.set("train.steps", 2).set("runtime.output", str(tmp_path)).plan()
    first = plan.run()
    assert first.directory
    kept = {file: file.read_bytes() for file in first.directory.iterdir() if file.is_file()}
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(HeldOut, "showcase", None)
        assert plan.run() == first
    said = capsys.readouterr().err
    assert said.splitlines() == [f"already finished: {first.checkpoint}: step 2 of 2"]
    assert {file: file.read_bytes() for file in kept} == kept
    (first.directory / "result.json").unlink()
    assert plan.run() == first
    assert "generating samples" in capsys.readouterr().err


@pytest.mark.usefixtures("trained")
def test_a_resume_on_other_data_is_refused(recipe: Recipe, folder: Path) -> None:
    data = folder / "train.txt"
    text = data.read_text(encoding="utf-8")
    data.write_text(text + "More.\n", encoding="utf-8")
    try:
        with pytest.raises(RunError, match=r"changed since .*: the contents of task\.data"):
            recipe.plan().run()
    finally:
        data.write_text(text, encoding="utf-8")


def test_a_checkpoint_past_the_last_step_is_refused_and_no_loss_is_made_up(
    trained: Result, recipe: Recipe, tmp_path: Path
) -> None:
    there = recipe.set("train.resume", str(trained.checkpoint))
    there = there.set("runtime.output", str(tmp_path))
    with pytest.raises(SpecError, match="is at step 12, past the 6 steps of this recipe"):
        there.set("train.steps", 6).plan().run()
    task = Task.pretrain(data=recipe.parts["task"].data)  # type: ignore[attr-defined]
    assert there.replace(task).plan().run().loss is None


def test_a_second_run_in_the_same_directory_is_refused(recipe: Recipe, trained: Result) -> None:
    assert trained.directory
    with (
        RunDirectory(trained.directory).alone(),
        pytest.raises(RunError, match="is working here"),
    ):
        recipe.plan().run()


def test_a_run_that_starts_anew_moves_the_checkpoints_of_the_last_one_aside(
    recipe: Recipe, tmp_path: Path
) -> None:
    anew = recipe.set("train.resume", "never").set("runtime.output", str(tmp_path))
    anew = anew.set("train.steps", 3).set("train.save_every", 1)
    first, second = (anew.plan().run() for _ in range(2))
    assert first.directory
    assert second.checkpoint == first.checkpoint
    for name in ("checkpoints", "checkpoints-before-1"):
        assert [step for step, _ in store.steps(first.directory / name)] == [1, 2, 3]


def test_finetune_starts_from_the_weights_and_takes_their_tokenizer(
    trained: Result, recipe: Recipe, folder: Path
) -> None:
    tuned = (
        Model(weights=str(trained.checkpoint), dropout=0.0)
        | recipe.parts["train"].evolve(steps=2, save_every=0)
        | recipe.parts["runtime"]
        | Task.finetune(data=str(folder / "train.txt"), eval_data=str(folder / "valid.txt"))
    )
    plan = tuned.plan()
    assert plan.geometry.hidden == 32
    result = plan.run()
    assert result.loss_before == pytest.approx(trained.loss, rel=1e-6)


def test_a_loss_that_is_no_number_stops_with_one_line(recipe: Recipe, tmp_path: Path) -> None:
    hot = recipe.set("optim.lr", 1e30).set("train.clip", 0.0).set("runtime.output", str(tmp_path))
    with pytest.raises(RunError, match=r"step \d+: loss") as caught:
        hot.plan().run()
    assert "\n" not in str(caught.value)


def test_ctrl_c_ends_with_a_checkpoint_and_the_command_that_resumes(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path).set("train.steps", 100_000).set("train.save_every", 0)
    (tmp_path / "long.toml").write_text(recipe.to_toml(), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "gpt2dsl", "run", str(tmp_path / "long.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    log = next(iter(_until(lambda: list((tmp_path / "runs").glob("*/metrics.jsonl")))))
    _until(lambda: log.read_text().count("gradient_norm") > 3)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 10
    assert process.returncode == 1
    assert out == ""
    assert "Traceback" not in err
    assert f"go on with: {sys.executable} -m gpt2dsl run {tmp_path / 'long.toml'}" in err
    step, folder, _ = _newest(log.parent / "checkpoints")
    assert step > 3
    assert f"stopped at step {step} of 100000; checkpoint {folder}" in err


def test_a_run_stopped_before_its_first_step_goes_on_to_the_same_end(
    trained: Result, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = recipe.set("runtime.output", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__enter__", _stopping)
        with pytest.raises(Interrupted, match="stopped at step 0 of"):
            there.plan().run()
    result = there.plan().run()
    assert (result.steps, result.loss) == (12, trained.loss)
    assert [line["step"] for line in metrics(result) if "eval_loss" in line] == [0, 6, 12]


class StopAt(Callback):
    """The user stops after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    @override
    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_run_that_began_at_a_named_checkpoint_goes_on_where_it_was_stopped(
    trained: Result, recipe: Recipe, tmp_path: Path
) -> None:
    assert trained.directory
    begun = recipe.set("train.resume", str(trained.directory / "checkpoints" / "step-5"))
    begun = begun.set("runtime.output", str(tmp_path))
    for stop in (7, 9):  # the second time it has a checkpoint of its own
        with pytest.raises(Interrupted, match=rf"stopped at step {stop} of 12(?s:.*)plan\.run"):
            begun.plan().run(callbacks=[StopAt(stop)])
    result = begun.plan().run()
    assert (result.steps, result.loss) == (12, trained.loss)
    assert [line["step"] for line in metrics(result) if "lr" in line] == list(range(6, 13))
    assert result.directory
    noted = RunDirectory(result.directory).attempts()
    assert [(one.step, one.reached) for one in noted] == [(5, None), (7, 7), (9, 9)]


class Fails(Callback):
    """As a crash does: no checkpoint is written."""

    @override
    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        if step in (3, 8):
            raise InterruptedError


def test_a_run_notes_when_it_went_on_and_what_it_did_again(
    trained: Result, recipe: Recipe, tmp_path: Path
) -> None:
    there = recipe.set("runtime.output", str(tmp_path))
    with pytest.raises(InterruptedError):
        there.plan().run(callbacks=[Fails()])
    for stop in (4, 6):
        with pytest.raises(Interrupted):
            there.plan().run(callbacks=[StopAt(stop)])
    with pytest.raises(InterruptedError):
        there.plan().run(callbacks=[Fails()])
    result = there.plan().run()
    assert result.loss == trained.loss
    assert result.directory
    noted = RunDirectory(result.directory).attempts()
    assert [(one.step, one.reached) for one in noted] == [(0, None), (0, 3), (4, 4), (6, 6), (6, 8)]
    report = result.directory / "report.html"
    page = report.read_text(encoding="utf-8")
    assert "The run was stopped and went on 4 times; 5 steps were done again." in page
    assert page.count("UTC</td>") == 5
    assert "began again; steps 1 to 3 were done again" in page
    assert page.count("went on after a stop") == 3
    there.plan().run()  # nothing is left to train
    assert RunDirectory(result.directory).attempts() == noted
    assert report.read_text(encoding="utf-8") == page
    there.set("train.resume", "never").plan().run()
    assert [one.reached for one in RunDirectory(result.directory).attempts()] == [None]
    assert "went on" not in report.read_text(encoding="utf-8")


def test_a_refused_and_an_idle_run_leave_every_file_of_the_run_as_it_is(
    recipe: Recipe, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    shutil.copy(recipe.completed.task.data, text)  # type: ignore[union-attr]
    own = recipe.set("runtime.output", str(tmp_path)).set("task.data", str(text))
    own = own.set("train.resume", "auto")
    directory = own.plan().run().directory
    assert directory

    def files() -> dict[str, tuple[bytes, int]]:
        names = ("plan.json", "recipe.toml", "metrics.jsonl", "result.json", "report.html")
        paths = [directory / name for name in names]
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}

    before = files()
    own.plan().run()  # finished already
    assert files() == before
    text.write_text(text.read_text() + "more\n")
    with pytest.raises(RunError, match=r"the contents of task\.data"):
        own.plan().run()
    assert files() == before
    own.set("train.resume", "never").plan().run()
    assert files()["plan.json"] != before["plan.json"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("train.batch_size", 2), ("train.seq_length", 16), ("train.seed", 1), ("optim.name", "sgd")],
)
def test_a_resume_that_would_mix_two_runs_is_refused_with_both_values(
    trained: Result, recipe: Recipe, tmp_path: Path, key: str, value: Any
) -> None:
    assert trained.directory
    begun = recipe.set("train.resume", str(trained.directory / "checkpoints" / "step-5"))
    other = begun.set("runtime.output", str(tmp_path)).set(key, value)
    now = re.escape(json.dumps(value))
    with pytest.raises(
        SpecError, match=rf"{re.escape(key)} \(.+ -> {now}\): .*train.resume = never"
    ):
        other.plan().run()


def test_weights_that_were_replaced_after_a_run_are_refused(
    trained: Result, folder: Path, tmp_path: Path
) -> None:
    assert trained.directory
    shutil.copytree(trained.directory / "checkpoints" / "step-5", tmp_path / "m")
    recipe = (
        Model(weights=str(tmp_path / "m"))
        | Train(batch_size=4, seq_length=32, steps=2)
        | Runtime(output=str(tmp_path / "runs"))
        | Task.finetune(data=str(folder / "valid.txt"))
    )
    assert recipe.plan().run().steps == 2
    (tmp_path / "m" / "manifest.json").unlink()
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes((trained.directory / "checkpoints/step-10/model.safetensors").read_bytes())
    with pytest.raises(RunError, match=r"the contents of model\.weights .*put back what was there"):
        recipe.plan().run()


def test_a_run_whose_beginning_was_replaced_is_refused(
    trained: Result, recipe: Recipe, tmp_path: Path
) -> None:
    assert trained.directory
    shutil.copytree(trained.directory / "checkpoints" / "step-10", tmp_path / "begin")
    begun = recipe.set("train.resume", str(tmp_path / "begin"))
    begun = begun.set("runtime.output", str(tmp_path / "runs"))
    assert begun.plan().run().steps == 12
    assert begun.plan().run().steps == 12
    other = tmp_path / "begin" / "config.json"
    other.write_bytes(other.read_bytes() + b"\n")
    with pytest.raises(RunError, match=r"the contents of train\.resume .*: the run began at the"):
        begun.plan().run()


def test_a_stopped_run_goes_on_where_its_inputs_have_moved(
    trained: Result, recipe: Recipe, folder: Path, tmp_path: Path
) -> None:
    assert trained.directory
    shutil.copytree(trained.directory / "checkpoints" / "step-5", tmp_path / "begin")
    shutil.copy(folder / "train.txt", tmp_path / "train.txt")
    begun = (
        recipe.set("train.resume", str(tmp_path / "begin"))
        .set("task.data", str(tmp_path / "train.txt"))
        .set("runtime.output", str(tmp_path / "runs"))
    )
    with pytest.raises(Interrupted):
        begun.plan().run(callbacks=[StopAt(9)])
    (tmp_path / "begin").rename(tmp_path / "begin-moved")
    (tmp_path / "train.txt").rename(tmp_path / "train-moved.txt")
    moved = begun.set("train.resume", str(tmp_path / "begin-moved"))
    moved = moved.set("task.data", str(tmp_path / "train-moved.txt"))
    plan = moved.plan()
    assert plan.directory == begun_directory(tmp_path)
    result = plan.run()
    assert (result.steps, result.loss) == (12, trained.loss)
    assert [line["step"] for line in metrics(result) if "lr" in line] == list(range(6, 13))

    # Another value or another content is another run.
    (tmp_path / "other.txt").write_text((folder / "train.txt").read_text() + "x")
    for other in (
        moved.set("optim.lr", 1e-4),
        moved.set("data.vocab", 300),
        moved.set("task.data", str(tmp_path / "other.txt")),
        moved.set("train.resume", "auto"),
    ):
        assert other.plan().directory != plan.directory


def begun_directory(folder: Path) -> str:
    (found,) = (folder / "runs").iterdir()
    return str(found)


def test_a_run_that_was_refused_is_not_found_by_what_it_was_refused_for(
    recipe: Recipe, folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "train.txt"
    content = (folder / "train.txt").read_text()
    data.write_text(content)
    there = recipe.set("task.data", str(data)).set("runtime.output", str(tmp_path / "runs"))
    with pytest.raises(Interrupted):
        there.plan().run(callbacks=[StopAt(5)])
    data.write_text(content + "x")
    with pytest.raises(RunError, match=r"the contents of task\.data"):
        there.plan().run()
    (tmp_path / "other.txt").write_text(content + "x")
    other = there.set("task.data", str(tmp_path / "other.txt")).plan()
    assert other.directory != begun_directory(tmp_path)


def test_what_goes_on_after_a_run_that_starts_anew_does_not_start_anew(
    trained: Result, recipe: Recipe, tmp_path: Path
) -> None:
    anew = recipe.set("train.resume", "never").set("runtime.output", str(tmp_path))
    with pytest.raises(Interrupted) as caught:
        anew.plan().run(callbacks=[StopAt(3)])
    assert 'go on with: recipe.set("train.resume", "auto").plan().run()' in str(caught.value)
    result = anew.set("train.resume", "auto").plan().run()
    assert (result.steps, result.loss) == (12, trained.loss)
    assert len(metrics(result)) == len(metrics(trained))


def test_a_run_goes_on_when_it_is_said_otherwise_what_is_kept_of_it(
    trained: Result, recipe: Recipe, tmp_path: Path
) -> None:
    there = recipe.set("runtime.output", str(tmp_path))
    with pytest.raises(Interrupted):
        there.plan().run(callbacks=[StopAt(3)])
    result = there.set("train.save_every", 4).set("train.keep", 9).plan().run()
    assert (result.steps, result.loss) == (12, trained.loss)
    assert result.directory
    assert [step for step, _ in store.steps(result.directory / "checkpoints")] == [3, 4, 8, 12]


def _stopping(request: StopRequest) -> StopRequest:
    """The user stops at once."""
    request.count = 1
    return request


def _newest(parent: Path) -> Any:
    found = store.newest(parent)
    return found.step, found.folder, found.skipped


def _until(condition: Any, seconds: float = 120) -> Any:
    for _ in range(int(seconds / 0.1)):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("nothing happened")
