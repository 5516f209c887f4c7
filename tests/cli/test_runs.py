from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Recipe
from gpt2dsl.engine.rundir import RunDirectory
from tests.cli.test_cli import run
from tests.commands import imported
from tests.library.run_directories import SPEC, make


def test_runs_are_a_table_and_columns_that_are_empty_are_left_out(
    capsys: Any, elsewhere: Path
) -> None:
    make(elsewhere / "runs" / "done", losses=[4.0, 3.0, 2.0])
    stopped = make(elsewhere / "runs" / "stopped", losses=[4.0], done=False)
    (make(elsewhere / "runs" / "half") / "plan.json").unlink()
    assert run("runs") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "name", "task", "state", "steps", "loss", "loss", "of", "perplexity", "tokens/s", "when",
    ]  # fmt: skip
    found = {row.split()[0]: row for row in rows}
    figures = ["pretrain", "done", "3", "2.5000", "held", "out", "12.18", "2,000"]
    assert found["done"].split()[1:9] == figures
    assert "4.0000  training" in found["stopped"]
    assert "stopped at step 1 of 3" in found["stopped"]
    assert "damaged: plan.json: it is absent" in found["half"]
    assert run("runs", str(stopped)) == 0
    assert "perplexity" not in capsys.readouterr().out


def test_runs_as_json_have_numbers_and_not_words(capsys: Any, elsewhere: Path) -> None:
    path = make(elsewhere / "other" / "a", losses=[4.0], done=False)
    with RunDirectory(path).alone():
        assert run("runs", "other", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row.pop("when")[:2] == "20"
    assert row == {
        "name": "a",
        "path": "other/a",
        "task": "pretrain",
        "state": "running",
        "steps": 1,
        "planned_steps": 3,
        "loss": 4.0,
        "loss_of": "training",
        "perplexity": None,
        "tokens_per_second": 1000.0,
        "with": {},
        "problem": "",
    }


def test_weights_named_without_a_digest_are_the_newest_run_and_it_is_said(
    capsys: Any, elsewhere: Path
) -> None:
    old, new = (make(elsewhere / "runs" / f"base-0000000{number}") for number in (1, 2))
    os.utime(old / "plan.json", (1, 1))
    commands: tuple[str, ...] = ("generate {} --prompt a", "inspect {}", "classify {} --text a")
    commands += ("convert {} out", "export {} out", "reshard {} out --to dp=1")
    for words in commands:
        assert run(*words.format("runs/base").split()) == 2
        err = capsys.readouterr().err
        assert f"runs/base: the newest such run, {new.relative_to(elsewhere)}\n" in err
        assert "base-00000001" not in err
        assert run(*words.format("runs/best").split()) == 2
        assert "no such run; those in runs: base-00000002, base-0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "inspect adapter --base {}",
        "convert adapter out --merge --base {}",
        "export adapter out --base {}",
        "serve adapter --check --adapter de={}",
    ],
)
def test_options_name_runs_without_a_digest_as_arguments_do(
    words: str, capsys: Any, elsewhere: Path
) -> None:
    old, _ = (make(elsewhere / "runs" / f"base-0000000{number}") for number in (1, 2))
    os.utime(old / "plan.json", (1, 1))
    assert run(*words.format("runs/base").split()) == 2
    err = capsys.readouterr().err
    assert "runs/base: the newest such run, runs/base-00000002\n" in err
    assert "there is no such run" not in err


def test_a_bare_name_of_weights_is_that_of_a_model(capsys: Any, elsewhere: Path) -> None:
    make(elsewhere / "gpt2-00000001")
    assert run("inspect", "gpt2") == 2
    assert "the newest such run" not in capsys.readouterr().err
    assert run("inspect", "./gpt2") == 2
    assert "the newest such run" not in capsys.readouterr().err


def test_runs_of_one_name_show_the_values_in_which_they_are_unlike(
    capsys: Any, elsewhere: Path
) -> None:
    for number, settings in enumerate(("[optim]\nlr = 0.5\n", "[lora]\nr = 4\n", "")):
        make(elsewhere / "runs" / f"base-0000000{number}", toml=f"{SPEC}\n{settings}")
    make(elsewhere / "runs" / "other-00000000", toml=f"{SPEC}\n[optim]\nlr = 0.1\n")
    (make(elsewhere / "runs" / "base-00000004") / "recipe.toml").write_text("[")
    make(elsewhere / "runs" / "-00000000")
    assert run("runs", "--json") == 0
    rows = {row["name"]: row["with"] for row in json.loads(capsys.readouterr().out)}
    default = rows["base-00000002"]["optim.lr"]
    assert default != 0.5
    assert rows["base-00000000"] == {"optim.lr": 0.5}
    assert rows["base-00000001"].items() >= {"optim.lr": default, "lora.r": 4}.items()
    assert rows["other-00000000"] == rows["base-00000004"] == {}
    assert run("runs") == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[-1] == "with"
    assert next(line for line in table if "base-00000000" in line).endswith("optim.lr = 0.5")


def test_a_folder_without_runs_says_so(capsys: Any, elsewhere: Path) -> None:
    (elsewhere / "runs").mkdir()
    assert run("runs") == 0
    assert capsys.readouterr().out == "no runs in runs\n"
    assert run("runs", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_name_that_is_no_unicode_is_shown(capsys: Any, elsewhere: Path) -> None:
    make(elsewhere / "runs" / "a\udcff")
    assert run("runs") == 0
    assert run("runs", "--json") == 0
    assert "a\ufffd" in capsys.readouterr().out


def test_diff_of_recipes_shows_the_values_that_differ_and_nothing_of_runs(
    capsys: Any, elsewhere: Path
) -> None:
    (elsewhere / "x.toml").write_text(SPEC + "\n[lora]\nr = 4\n\n[runtime]\noutput = 'b'\n")
    (elsewhere / "y.toml").write_text(SPEC)
    assert run("diff", "x.toml", "y.toml") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[:2]] == [["A", "x.toml"], ["B", "y.toml"]]
    assert ["lora.r", "4", "absent"] in lines
    assert ["runtime.output", '"b"', '"runs"'] in lines
    assert run("diff", "quickstart", "quickstart") == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["recipe: equal"]


def test_diff_of_runs_shows_plans_results_and_where_losses_part(
    capsys: Any, elsewhere: Path
) -> None:
    evaluations = {0: 5.0, 3: 2.5}
    make(elsewhere / "a", losses=[4.0, 3.0, 2.0], evaluations=evaluations)
    make(
        elsewhere / "b",
        losses=[4.0, 3.5],
        done=False,
        toml=SPEC + "\n[optim]\nlr = 0.5\n",
        parameters=12345,
    )
    assert run("diff", "a", "b") == 0
    out = capsys.readouterr().out
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert ["optim.lr", "0.0001", "0.5"] in lines
    assert ["parameters", "100", "12,345"] in lines
    assert ["state", "done", "stopped at step 2 of 3"] in lines
    assert re.search(r"^  loss of +held out +training$", out, re.MULTILINE)
    assert ["tokens/s", "2,000", "1,000"] in lines
    assert "best evaluation  2.5000 at step 3" in out
    assert out.splitlines()[-1] == (
        "training losses: first differ by more than 1e-6 relative at step 2 (3.0 and 3.5), "
        "of 2 common steps"
    )


def test_diff_takes_the_newest_run_of_a_name(capsys: Any, elsewhere: Path) -> None:
    for name in ("a-00000001", "b-00000001"):
        make(elsewhere / "runs" / name, losses=[4.0, 3.0])
    assert run("diff", "runs/a", "runs/b") == 0
    assert "A  runs/a-00000001" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([4.0, 3.0], "equal bit for bit over 2 common steps"),
        ([4.0], "equal bit for bit over 1 common step"),
        (
            [4.0, 3.0000001],
            "within 1e-6 relative over 2 common steps, but first unequal at step 2",
        ),
        ([], "no common steps"),
    ],
)
def test_diff_says_how_far_losses_are_equal(
    losses: list[float], said: str, capsys: Any, elsewhere: Path
) -> None:
    make(elsewhere / "a", losses=[4.0, 3.0], planned=2)
    make(elsewhere / "b", losses=losses, planned=2, done=False)
    assert run("diff", "a", "b") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"training losses: {said}"
    assert "recipe: equal" in lines
    assert "plan: equal" in lines


def test_diff_draws_the_losses_of_two_runs_on_a_page(capsys: Any, elsewhere: Path) -> None:
    make(elsewhere / "a", losses=[4.0, 3.0], evaluations={0: 5.0, 2: 2.5})
    make(elsewhere / "b", losses=[4.0, 3.5], toml=SPEC + "\n[optim]\nlr = 0.5\n")
    assert run("diff", "a", "b", "--html", "both.html") == 0
    page = (elsewhere / "both.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "optim.lr</td><td>0.0001</td><td>0.5</td>" in page
    assert "loss of</td><td>training</td><td>training</td>" in page
    (elsewhere / "x.toml").write_text(SPEC)
    capsys.readouterr()
    assert run("diff", "a", "x.toml", "--html", "one.html") == 2
    assert "--html draws the losses of runs; x.toml has none" in capsys.readouterr().err
    assert not (elsewhere / "one.html").exists()
    assert run("diff", "a", "b", "--html", "none/there.html") == 1
    assert "none/there.html: it can't be written: No such file" in capsys.readouterr().err


def test_diff_of_several_runs_has_a_column_for_each(capsys: Any, elsewhere: Path) -> None:
    make(elsewhere / "a", losses=[4.0, 3.0], evaluations={0: 5.0, 2: 2.5})
    make(elsewhere / "b", losses=[4.0, 3.0])
    make(elsewhere / "c", losses=[4.0, 3.5], toml=SPEC + "\n[optim]\nlr = 0.5\n")
    (elsewhere / "x.toml").write_text(SPEC + "\n[lora]\nr = 4\n")
    assert run("diff", "a", "b", "c", "--html", "all.html") == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in out[:3]] == [["A", "a"], ["B", "b"], ["C", "c"]]
    assert out[3].split() == ["recipe", "A", "B", "C"]
    assert ["optim.lr", "0.0001", "0.0001", "0.5"] in [line.split() for line in out]
    assert "plan: equal" in out
    assert out[-2] == "training losses of A and B: equal bit for bit over 2 common steps"
    assert out[-1].startswith("training losses of A and C: first differ by more than 1e-6")
    page = (elsewhere / "all.html").read_text(encoding="utf-8")
    assert "<h1>3 runs</h1>" in page
    assert "optim.lr</td><td>0.0001</td><td>0.0001</td><td>0.5</td>" in page
    assert run("diff", "a", "b", "x.toml", "quickstart", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"a", "b", "c", "d", "recipe"}
    rank = next(row for row in found["recipe"] if row["key"] == "lora.r")
    assert rank == {"key": "lora.r", "c": 4}
    assert run("diff", "a", "b", "c", "--json") == 0
    losses = json.loads(capsys.readouterr().out)["losses"]
    assert (losses["b"]["first_unequal"], losses["c"]["first_unequal"]["step"]) == (None, 2)
    assert run("diff", "a", "b", "x.toml", "--html", "some.html") == 2
    assert "--html draws the losses of runs; x.toml has none" in capsys.readouterr().err


def test_diff_of_more_than_its_letters_is_refused(capsys: Any, elsewhere: Path) -> None:
    make(elsewhere / "a")
    assert run("diff", *["a"] * 27) == 2
    assert "27 are too many to compare: at most 26" in capsys.readouterr().err


def test_diff_as_json_is_one_document(capsys: Any, elsewhere: Path) -> None:
    make(elsewhere / "a", losses=[4.0, 3.0])
    make(elsewhere / "b", losses=[4.0, 3.5], toml=SPEC + "\n[optim]\nlr = 0.5\n")
    assert run("diff", "a", "b", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"] == [{"key": "optim.lr", "a": 0.0001, "b": 0.5}]
    assert found["plan"] == []
    assert found["losses"] == {
        "common_steps": 2,
        "tolerance": 1e-6,
        "first_unequal": {"step": 2, "a": 3.0, "b": 3.5},
        "first_apart": {"step": 2, "a": 3.0, "b": 3.5},
    }
    assert run("diff", "a", "quickstart", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"a", "b", "recipe"}


def test_long_values_are_shown_from_where_they_differ(capsys: Any, elsewhere: Path) -> None:
    for name in "xy":
        data = f"{'a/long/path/' * 20}{name}/{'tail/' * 20}"
        (elsewhere / f"{name}.toml").write_text(SPEC.replace("sample:train", data))
    assert run("diff", "x.toml", "y.toml") == 0
    (line,) = [row for row in capsys.readouterr().out.splitlines() if "task.data" in row]
    assert len(line) < 120
    assert "path/x/tail" in line
    assert "path/y/tail" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs", "none"], "none: there is no such folder [G2-301]"),
        (["runs", "x.toml"], "x.toml: it is no folder [G2-304]"),
        (["diff", "quickstart"], "Missing argument"),
        (["diff", "quickstart", "quickstrt"], "did you mean quickstart?"),
        (["diff", "quickstart", "none.toml"], "none.toml"),
        (["diff", "empty", "quickstart"], "empty: it is a folder, but not of a run"),
        (["diff", "half", "half"], "half/plan.json: it is damaged [G2-304]"),
        (["diff", "cut", "cut"], "cut/metrics.jsonl: it is damaged"),
        (["diff", "bad", "quickstart"], "bad/recipe.toml:1"),
    ],
)
def test_bad_input_ends_with_code_2_and_one_line(
    words: list[str], said: str, capsys: Any, elsewhere: Path
) -> None:
    (elsewhere / "x.toml").write_text(SPEC)
    (elsewhere / "empty").mkdir()
    (make(elsewhere / "half") / "plan.json").write_text('{"task": ')
    (make(elsewhere / "cut") / "metrics.jsonl").write_text("cut\n")
    (make(elsewhere / "bad") / "recipe.toml").write_text("[nonsense]\n")
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.splitlines()) == (4 if "Missing" in said else 1)


def test_diff_reports_the_faults_of_both_sides(capsys: Any) -> None:
    assert run("diff", "no-such-a", "no-such-b") == 2
    err = capsys.readouterr().err
    assert "no-such-a" in err
    assert "no-such-b" in err


def test_runs_and_diff_import_neither_mindspore_nor_torch_nor_engines(tmp_path: Path) -> None:
    a, b = (make(tmp_path / name, losses=[1.0]) for name in "ab")
    heavy = {
        "mindspore",
        "torch",
        "transformers",
        "gpt2dsl.engine.job",
        "gpt2dsl.model",
        "gpt2dsl.training",
    }
    for words in (["runs", str(tmp_path)], ["diff", str(a), str(b)], ["diff", "--help"]):
        assert imported(words, heavy) == (0, set())


def test_diff_of_plans_shows_what_follows_from_the_recipes(capsys: Any, elsewhere: Path) -> None:
    for name, size in (("a", "124m"), ("b", "355m")):
        words = ["plan", "gpt2-124m-pretrain", "--set", f"model.size={size}", "--out"]
        assert run(*words, str(elsewhere / f"{name}.json")) == 0
    capsys.readouterr()
    assert run("diff", "a.json", "b.json") == 0
    said = capsys.readouterr().out
    assert '  model.size  "124m"       "355m"' in said
    assert "  parameters  124,439,808  354,823,168" in said
    assert "result" not in said
    Path("c.json").write_text("{}")
    assert run("diff", "a.json", "c.json") == 2
    assert "c.json: it is damaged [G2-304]" in capsys.readouterr().err


def test_diff_of_chains_goes_stage_by_stage(capsys: Any, elsewhere: Path) -> None:
    stage = '[[stage]]\n[stage.task]\nkind = "evaluate"\ndata = "%s"\n'
    (elsewhere / "x.toml").write_text(stage % "a" + stage % "b")
    (elsewhere / "y.toml").write_text(stage % "a" + stage % "c" + stage % "d")
    assert run("diff", "x.toml", "y.toml") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert rows == [
        ["stage.2.task.data", '"b"', '"c"'],
        ["stage.3.task.kind", "absent", '"evaluate"'],
    ]


def test_diff_of_several_chains_goes_stage_by_stage(capsys: Any, elsewhere: Path) -> None:
    stages = "\n[[stage]]\nextends = 'quickstart'\n"
    for name, text in {"x": stages, "y": stages * 2, "z": stages * 2}.items():
        (elsewhere / f"{name}.toml").write_text(text)
    assert run("diff", "x.toml", "y.toml", "z.toml") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["stage.2.task.kind", "absent", '"pretrain"', '"pretrain"'] in lines


def test_a_plan_says_what_is_there_of_its_run(capsys: Any, elsewhere: Path) -> None:
    toml = SPEC + "\n[train]\nseq_length = 64\nsteps = 3\n"
    (elsewhere / "base.toml").write_text(toml)

    def last(*settings: str) -> str:
        assert run("plan", "base.toml", *settings) == 0
        return capsys.readouterr().out.splitlines()[-1].strip()

    writes = last()
    path = Path(writes.split()[1])
    assert writes == f"writes   {path}"
    make(path, toml=toml, losses=[4.0, 3.0], done=False)
    there = f"{path} is there, stopped at step 2 of 3: run would"
    assert last() == f"{there} start at step 0"
    (path / "checkpoints" / "step-1").mkdir(parents=True)
    assert last() == f"{there} resume at step 1"
    with RunDirectory(path).alone():
        assert last() == f"{path} is there, running at step 2 of 3"
    shutil.rmtree(path)
    make(path, toml=toml)
    assert last() == f"{path} is there, done: run would show its result"
    anew = ("--set", "train.resume=never")
    assert last(*anew) == f"{path} is there, done: run would start anew"
    plan = json.loads((path / "plan.json").read_text())
    plan["identity"] = Recipe.load("base.toml").plan().identity.to_json()
    plan["identity"]["contents"]["task.data"] = 64 * "0"
    (path / "plan.json").write_text(json.dumps(plan))
    changed = f"{path} is there, done: run would be refused: the contents of task.data changed"
    assert last() == f"{changed}; train.resume = never starts anew"
    (path / "plan.json").write_text("{")
    assert last(*anew) == f"{path} is there, damaged: plan.json: it is damaged"
