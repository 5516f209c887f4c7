from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Recipe
from gpt2dsl.cli.main import main


def run(*words: str) -> int:
    """The exit code of a command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["gpt2dsl", *words])
        with pytest.raises(SystemExit) as stop:
            main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_check_prints_every_fault_in_one_sorted_report(capsys: Any) -> None:
    assert run("check", "tests/golden/eight_faults.toml") == 2
    out, err = capsys.readouterr()
    assert out == Path("tests/golden/eight_faults.txt").read_text(encoding="utf-8")
    assert err == ""


def test_check_as_json_has_the_same_faults(capsys: Any) -> None:
    assert run("check", "tests/golden/eight_faults.toml", "--json") == 2
    found = json.loads(capsys.readouterr().out)
    assert [fault["code"] for fault in found] == [
        "G2-203", "G2-101", "G2-201", "G2-202", "G2-105", "G2-102", "G2-301", "G2-104",
    ]  # fmt: skip
    assert (found[0]["key"], found[0]["value"]) == ("parallel.mp", "7")
    assert (found[1]["key"], found[1]["value"]) == ("train.bach_size", "")


@pytest.mark.parametrize("command", ["plan", "run"])
def test_what_check_finds_is_what_other_commands_refuse(
    capsys: Any, elsewhere: Path, command: str
) -> None:
    spec = '[model]\nsize = "nano"\nheads = 3\n[train]\nbach_size = 4\nseq_length = 512\n'
    spec += '[task]\nkind = "pretrain"\ndata = "none.txt"\n'
    (elsewhere / "x.toml").write_text(spec)
    assert run("check", "x.toml") == 2
    found = capsys.readouterr().out
    assert found.endswith("4 faults\n")
    assert run(command, "x.toml") == 2
    err = capsys.readouterr().err
    assert all(line in err for line in found.splitlines())
    (elsewhere / "x.toml").write_text(spec.replace("bach_size", "batch_size"))
    assert run(command, "x.toml") == 2
    err = capsys.readouterr().err
    assert "task.data" in err
    assert "3 faults" in err


def test_the_default_of_a_key_that_was_meant_is_not_blamed(capsys: Any, elsewhere: Path) -> None:
    spec = '[model]\nsize = "nano"\n[train]\nseq_lenght = 64\n'
    (elsewhere / "x.toml").write_text(f'{spec}[task]\nkind = "pretrain"\ndata = "sample:train"\n')
    assert run("check", "x.toml") == 2
    out = capsys.readouterr().out
    assert "did you mean seq_length?" in out
    assert out.endswith("1 fault\n")


def test_check_of_several_specs_reports_them_together(capsys: Any) -> None:
    assert run("check", "specs/gpt2-13b-pretrain.toml", "tests/golden/eight_faults.toml") == 2
    assert "9 faults" in capsys.readouterr().out


def test_an_empty_spec_lacks_a_task(capsys: Any, elsewhere: Path) -> None:
    (elsewhere / "empty.toml").touch()
    assert run("check", "empty.toml") == 2
    assert "a recipe says what to do" in capsys.readouterr().out


def test_check_of_what_is_right(capsys: Any) -> None:
    assert run("check", "specs/quickstart.toml") == 0
    assert capsys.readouterr().out == "no faults\n"


def test_plan_accepts_absent_inputs_and_run_refuses_them(capsys: Any, elsewhere: Path) -> None:
    spec = elsewhere / "x.toml"
    spec.write_text('[task]\nkind = "pretrain"\ndata = "none.txt"\n')
    assert run("plan", str(spec)) == 0
    assert "1 input is absent; a run is refused." in capsys.readouterr().out
    assert run("run", str(spec)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "x.toml:3  task.data = none.txt" in captured.err
    assert not (elsewhere / "runs").exists()


def test_plan_why_names_the_origin_of_every_value(capsys: Any) -> None:
    assert run("plan", "specs/quickstart.toml", "--why", "--set", "train.seed=3") == 0
    values, _, identity = capsys.readouterr().out.partition("identity: what decides the result\n")
    lines = {line.split()[0]: line.split()[-1] for line in values.splitlines() if line}
    assert "  train.seed " in identity
    assert "  contents of task.data " in identity
    assert lines["train.seed"] == "--set"
    assert lines["model.size"] == "specs/quickstart.toml:3"
    assert lines["train.clip"] == "default"


def test_plan_out_and_json_are_the_same_document(capsys: Any, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    assert run("plan", "specs/quickstart.toml", "--json", "--out", str(out)) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text(encoding="utf-8"))


def test_show_as_python_is_code_that_builds_the_recipe(capsys: Any) -> None:
    for spec in ("quickstart", "gpt2-52b-pretrain"):
        assert run("show", spec, "--as", "python") == 0
        scope: dict[str, Any] = {}
        exec(capsys.readouterr().out, scope)  # noqa: S102
        assert scope["recipe"] == Recipe.load(spec)


def test_show_as_toml_reads_back(capsys: Any) -> None:
    assert run("show", "gpt2-13b-pretrain") == 0
    assert Recipe.from_toml(capsys.readouterr().out) == Recipe.load("gpt2-13b-pretrain")


def test_list_shows_the_library(capsys: Any) -> None:
    assert run("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["gpt2-52b-pretrain"]["devices"] == "128"
    assert rows["gpt2-124m-finetune"]["task"] == "finetune"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "no-such-recipe"], "is no recipe of the library, no .toml file"),
        (["plan", "no/such.toml"], "can't be read"),
        (["nonsense"], "No such command"),
        (
            ["plan", "quickstart", "--out", "no/such/plan.json"],
            "no/such/plan.json can't be written",
        ),
        (["plan"], "Missing argument"),
        (["plan", "quickstart", "--set", "x"], "expected table.key=value"),
        (["generate", "w"], "expected --prompt TEXT"),
        (["classify", "w"], "expected --text TEXT, or --texts FILE; found neither"),
        (["classify", "w", "--text", "a", "--texts", "b"], "or --texts FILE; found both"),
        (["generate", "no/weights", "--prompt", "a"], "WEIGHTS = no/weights: "),
        (["generate", "w", "--prompt", "a", "--temperature", "-1"], "--temperature"),
    ],
)
def test_wrong_commands_end_with_code_2_and_no_traceback(
    words: list[str], said: str, capsys: Any
) -> None:
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_help_lists_every_command(capsys: Any) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    for command in ("run", "plan", "check", "show", "list", "generate"):
        assert f"  {command} " in out


def test_tokenizer_train_as_json_says_what_was_made(capsys: Any, elsewhere: Path) -> None:
    (elsewhere / "text.tsv").write_text('text\n"the cat\nthe mat\n')
    form = ("--format", "tsv", "--no-quotes")
    assert run("tokenizer", "train", "text.tsv", "words", "--vocab", "260", "--json", *form) == 0
    assert json.loads(capsys.readouterr().out) == {"entries": 260, "target": "words"}


def test_a_command_that_is_none_suggests_the_one_that_was_meant(capsys: Any) -> None:
    assert run("chek", "x.toml") == 2
    assert capsys.readouterr().err.endswith("Error: No such command 'chek'; did you mean check?\n")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["run", "--lr", "3", "x.toml"], "It is --set optim.lr=3."),
        (["check", "--batch-size=8", "x.toml"], "It is --set train.batch_size=8."),
        (["plan", "--learning-rate", "-3", "x.toml"], "It is --set optim.lr=-3."),
        (["run", "x.toml", "--train.steps", "--quiet"], "It is --set train.steps=VALUE."),
        (["run", "--data", "a b", "x"], "It is --set task.data='a b'."),
        (["run", "--seed", "3", "x"], "It is --set train.seed=3 or --set generation.seed=3."),
        (["run", "--nmae", "x"], "(Did you mean one of: '--name', '--node'?)"),
        (["classify", "w", "--file", "x"], "A file with a text per line is --texts FILE."),
        (["generate", "w", "--texts", "x"], "A file with a text per line is --prompts FILE."),
    ],
)
def test_an_unknown_option_that_has_another_name_here_is_told_it(
    words: list[str], meant: str, capsys: Any
) -> None:
    assert run(*words) == 2
    assert capsys.readouterr().err.endswith(f"{meant}\n")
