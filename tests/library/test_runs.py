from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gpt2dsl import InputError
from gpt2dsl.engine.rundir import RunDirectory
from gpt2dsl.library import runs
from tests.library.run_directories import make, running


def test_a_run_is_done_once_its_result_is_there(tmp_path: Path) -> None:
    run = runs.read(make(tmp_path / "a", losses=[4.0, 3.0, 2.0]))
    assert str(run) == run.state == "done"
    assert (run.task, run.steps, run.planned) == ("pretrain", 3, 3)
    assert (run.loss, run.perplexity, run.tokens_per_second) == (2.5, 12.18, 2000.0)


def test_a_stopped_run_tells_its_step_and_its_last_training_losses(tmp_path: Path) -> None:
    path = make(tmp_path / "a", losses=[4.0, 3.0], planned=1000, done=False)
    run = runs.read(path)
    assert str(run) == "stopped at step 2 of 1,000"
    assert (run.loss, run.perplexity, run.tokens_per_second) == (3.5, None, 1000.0)


def test_the_result_of_before_a_new_start_does_not_count(tmp_path: Path) -> None:
    path = make(tmp_path / "a", losses=[4.0])
    assert str(runs.read(path)) == "stopped at step 1 of 3"
    (path / "metrics.jsonl").write_text("")
    assert str(runs.read(path)) == "stopped at step 0 of 3"


def test_a_run_is_running_while_its_lock_is_held_and_not_because_a_lock_lies_there(
    tmp_path: Path,
) -> None:
    path = make(tmp_path / "a", losses=[4.0], done=False)
    with RunDirectory(path).alone():
        assert str(runs.read(path)) == "running at step 1 of 3"
    assert (path / ".lock").exists()
    assert runs.read(path).state == "stopped"


def test_looking_leaves_nothing_and_holds_no_lock(tmp_path: Path) -> None:
    path = make(tmp_path / "a")
    before = sorted(path.iterdir())
    runs.read(path)
    assert sorted(path.iterdir()) == before
    with running(path), pytest.raises(Exception, match="is working here"):
        RunDirectory(path).alone().__enter__()
    runs.read(path)
    with RunDirectory(path).alone():
        pass


def test_tasks_without_steps_are_done_by_their_result(tmp_path: Path) -> None:
    path = make(tmp_path / "a", batches=None, task="generate")
    (path / "metrics.jsonl").unlink()
    (path / "result.json").write_text('{"task": "generate", "tokens_per_second": 7.0}')
    run = runs.read(path)
    assert (str(run), run.steps, run.loss, run.tokens_per_second) == ("done", None, None, 7.0)
    (path / "result.json").unlink()
    assert str(runs.read(path)) == "stopped"


def test_a_name_without_its_digest_is_the_run_that_started_last(tmp_path: Path) -> None:
    names = ("base-00000002", "base-00000001", "base-00000003", "base-mine-00000004", "base")
    for seconds, name in enumerate(names):
        os.utime(make(tmp_path / name) / "plan.json", (seconds, seconds))
    (tmp_path / "base-00000005").mkdir()
    assert runs.newest(tmp_path / "base") == tmp_path / "base-00000003"
    assert runs.newest(tmp_path / "base-mine") == tmp_path / "base-mine-00000004"
    for absent in ("bas", "base-00000003", "*", ""):
        assert runs.newest(tmp_path / absent) is None
    assert runs.newest(tmp_path / "nowhere" / "base") is None


def test_a_line_that_is_being_written_is_passed_over(tmp_path: Path) -> None:
    path = make(tmp_path / "a", losses=[4.0, 3.0], done=False)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert runs.read(path).steps == 2
    assert [line["step"] for line in runs.metrics(path)] == [1, 2]


def test_only_the_end_of_long_metrics_is_read(tmp_path: Path) -> None:
    path = make(tmp_path / "a", losses=[1.0] * 20_000, planned=30_000, done=False)
    file = path / "metrics.jsonl"
    file.write_text("damaged\n" + file.read_text())
    assert str(runs.read(path)) == "stopped at step 20,000 of 30,000"
    with pytest.raises(InputError, match="a line is 'damaged'"):
        runs.metrics(path)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("plan.json", None, "plan.json: it is absent"),
        ("recipe.toml", None, "recipe.toml: it is absent"),
        ("plan.json", b"", "plan.json: it is damaged"),
        ("plan.json", b"[]", "plan.json: it is damaged"),
        ("plan.json", b'{"task": 1}', "plan.json: it is damaged"),
        ("result.json", b'{"task": "pre', "result.json: it is damaged"),
        ("result.json", b"\xff\xfe\xfd", "result.json: it is damaged"),
        ("result.json", b"[" * 100_000, "result.json: it is damaged"),
        ("metrics.jsonl", b"\0\0\0\n", r"metrics.jsonl: it is damaged: a line is '\x00\x00\x00'"),
        ("metrics.jsonl", b'{"loss": 1}\n', """it is damaged: a line is '{"loss": 1}'"""),
        ("metrics.jsonl", b'{"step": NaN}\n', """it is damaged: a line is '{"step": NaN}'"""),
    ],
)
def test_damage_is_named_and_hides_no_other_run(
    file: str, content: bytes | None, problem: str, tmp_path: Path
) -> None:
    make(tmp_path / "whole")
    damaged = make(tmp_path / "damaged") / file
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    found = {run.path.name: run for run in runs.below(tmp_path)}
    assert found["whole"].state == "done"
    assert str(found["damaged"]).startswith("damaged: ")
    assert problem in str(found["damaged"])


def test_a_training_that_was_refused_before_its_first_step_has_not_started(tmp_path: Path) -> None:
    path = make(tmp_path / "a", losses=[1.0] * 3)
    (path / "result.json").unlink(missing_ok=True)
    assert runs.read(path).state == "stopped"
    (path / "metrics.jsonl").unlink()
    run = runs.read(path)
    assert (run.state, str(run), run.steps) == ("not started", "not started", None)


@pytest.mark.parametrize("value", [None, "3", [], {}, True])
def test_values_of_another_type_are_left_out(value: object, tmp_path: Path) -> None:
    path = make(tmp_path / "a", losses=[1.0] * 3, batches={"steps": value}, inputs=value)
    (path / "result.json").write_text(json.dumps({"task": "pretrain", "loss": value}))
    run = runs.read(path)
    assert (run.state, run.planned, run.loss) == ("done", None, None)


def test_runs_are_found_below_a_folder_the_newest_last(tmp_path: Path) -> None:
    for age, name in enumerate(["sweep/one", "b", "sweep/deep/two", "a"]):
        path = make(tmp_path / name)
        (path / "checkpoints" / "step-3").mkdir(parents=True)
        (path / "checkpoints" / "step-3" / "plan.json").touch()
        for file in path.iterdir():
            os.utime(file, (age, age))
    make(tmp_path / ".hidden" / "c")
    (tmp_path / "notes").mkdir()
    (tmp_path / "plan.json").write_text("{}")
    found = [run.path.relative_to(tmp_path).as_posix() for run in runs.below(tmp_path)]
    assert found == ["sweep/one", "b", "sweep/deep/two", "a"]
    assert [run.path for run in runs.below(tmp_path / "a")] == [tmp_path / "a"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        runs.below(tmp_path / "none")
