from __future__ import annotations

import re
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Chain, Model, Recipe, SpecError, Task, Train
from gpt2dsl.chain import specs
from gpt2dsl.library import finding
from gpt2dsl.parts.task import Convert, Generate, Pretrain
from gpt2dsl.recipe import structured
from gpt2dsl.spec import read


def faults(text: str) -> list[tuple[str, str, str]]:
    with pytest.raises(SpecError) as caught:
        Recipe.from_toml(text, "x.toml")
    return [(fault.code, fault.origin, fault.key) for fault in caught.value.faults]


def message(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        Recipe.from_toml(text, "x.toml")
    return str(caught.value)


def test_a_duplicate_table_names_both_lines() -> None:
    text = '[model]\nsize = "nano"\n\n[train]\nseed = 1\n[model]\nlayers = 2\n'
    assert message(text) == "x.toml:6  model: written twice; first at x.toml:1 [G2-003]"


def test_a_duplicate_key_names_both_lines() -> None:
    text = "[train]\nseed = 1\nbatch_size = 2\nseed = 3\n"
    assert message(text) == "x.toml:4  train.seed: written twice; first at x.toml:2 [G2-003]"


@pytest.mark.parametrize(
    ("text", "line"),
    [("[model\n", 1), ("[model]\nsize = nano\n", 2), ('[model]\nsize = "nano\n', 2), ("= 3", 1)],
)
def test_what_is_not_toml_is_said_with_its_line(text: str, line: int) -> None:
    assert faults(text) == [("G2-001", f"x.toml:{line}", "")]


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        ("size = nano", '; texts are written in quotes: size = "nano"'),
        ("data = my-text/*.txt  # ours", '; texts are written in quotes: data = "my-text/*.txt"'),
        ("best = True", "; truth values are lower case: best = true"),
        ("steps = 1 2", ""),
        ("lr = 1,5e-3", "; decimals have a point: 1.5e-3"),
        ("lr = 0,5  # half", "; decimals have a point: 0.5"),
        ("steps = 1,000", "; numbers have no commas: 1000, or 1.000 for a decimal"),
        ("steps = 1,000,000", "; numbers have no commas: 1000000"),
        ("steps = 1, 2", ""),
        ("steps = [1", ""),
        ("size = 'nano", ""),
    ],
)
def test_a_value_that_lacks_its_quotes_is_told_with_the_cure(line: str, cure: str) -> None:
    with pytest.raises(SpecError) as refused:
        Recipe.from_toml(f"[model]\n{line}\n", "x.toml")
    message = refused.value.faults[0].message
    assert message.partition(";")[1:] == cure.partition(";")[1:]


def test_a_number_with_a_comma_is_told_as_that_where_it_is_a_text() -> None:
    with pytest.raises(SpecError, match=r"decimals have a point: 1\.5e-3"):
        Recipe.load("quickstart", ["optim.lr=1,5e-3"])
    text = message('[train]\nsteps = "1,000"\nresume = "1,5"\nclip = "0,5"\n')
    assert "steps: expected an integer of at least 1, found the string '1,000'; numbers" in text
    assert "clip: expected a number of at least 0, found the string '0,5'; decimals have" in text
    assert "resume" not in text


def test_unknown_tables_and_keys_get_a_hint() -> None:
    text = message("[trian]\nseed = 1\n[train]\nbach_size = 2\nlr = 1\n[optim]\nzzz = 1\n")
    assert "x.toml:1  trian: unknown table; did you mean train? [G2-102]" in text
    assert "x.toml:4  train.bach_size: unknown key; did you mean batch_size? [G2-101]" in text
    assert "x.toml:5  train.lr: unknown key; [optim] has lr [G2-101]" in text
    assert "x.toml:7  optim.zzz: unknown key; it has name, lr, " in text


def test_the_names_of_trainer_are_told_ours_wherever_they_stand() -> None:
    ours = "Trainer's learning_rate is optim.lr here"
    text = message("learning_rate = 1\n[train]\nlearning_rate = 1\n[task]\nlearning_rate = 1\n")
    assert f"x.toml:1  learning_rate: unknown key outside of a table; {ours} [G2-102]" in text
    assert f"x.toml:3  train.learning_rate: unknown key; {ours} [G2-101]" in text
    assert f"x.toml:5  task.learning_rate: unknown key; {ours} [G2-101]" in text
    with pytest.raises(SpecError, match=ours):
        Recipe.load("quickstart", ["learning_rate=1"])
    text = message("[optim]\nlearning_rate = 1\noptim = 'adamw_torch'\n")
    assert f"x.toml:2  optim.learning_rate: unknown key; {ours} [G2-101]" in text
    assert "x.toml:3  optim.optim: unknown key; Trainer's optim is optim.name here" in text


def test_a_key_of_another_task_is_recognised() -> None:
    text = message('[task]\nkind = "finetune"\ndata = "a"\nprompts = ["b"]\n')
    assert text == "x.toml:4  task.prompts: belongs to generate, this is finetune [G2-104]"


def test_a_missing_key_is_said_at_its_table() -> None:
    assert faults('\n[task]\nkind = "finetune"\n') == [("G2-103", "x.toml:2", "task.data")]
    assert faults('[task]\ndata = "a"\n') == [("G2-103", "x.toml:1", "task.kind")]


@pytest.mark.parametrize("kind", ["", 'kind = "tune"'])
def test_the_unknown_keys_of_a_task_without_a_kind_are_told_too(kind: str) -> None:
    keys = 'type = "pretrain"\ndata = "a"\nevaldata = "b"\nlr = 1\nzzz = 1\n'
    text = message(f"[task]\n{kind}\n{keys}")
    assert ("x.toml:1  task.kind: missing" in text) is not bool(kind)
    assert "x.toml:3  task.type: unknown key; did you mean kind? [G2-101]" in text
    assert "task.data:" not in text
    assert "x.toml:5  task.evaldata: unknown key; did you mean eval_data? [G2-101]" in text
    assert "x.toml:6  task.lr: unknown key; [optim] has lr [G2-101]" in text
    assert "x.toml:7  task.zzz: unknown key [G2-101]" in text


def test_an_unknown_kind_of_task_lists_the_kinds() -> None:
    text = message('[task]\nkind = "tune"\n')
    assert "expected one of pretrain, finetune" in text


def test_a_key_outside_of_a_table_and_a_value_in_the_place_of_one() -> None:
    assert faults("seed = 1\n") == [("G2-102", "x.toml:1", "seed")]
    assert faults("train = 1\n") == [("G2-201", "x.toml:1", "train")]


def test_values_are_not_coerced() -> None:
    assert [code for code, *_ in faults('[train]\nseed = "1"\nclip = true\n')] == ["G2-201"] * 2


def test_nested_layouts_are_checked_like_parts() -> None:
    spec = '[task]\nkind = "reshard"\nsource = "a"\ntarget = "b"\nlayout = {mp = %s}\n'
    assert faults(spec % "0") == [("G2-202", "x.toml:5", "task.layout.mp")]
    assert faults(spec % "2, tp = 1") == [("G2-101", "x.toml:5", "task.layout.tp")]
    assert "mp=2" in repr(Recipe.from_toml(spec % "2"))


def test_a_chain_where_one_recipe_is_expected_is_refused_and_not_cut() -> None:
    assert faults("[[stage]]\n[stage.train]\nsteps = 1\n") == [("G2-108", "", "x.toml")]


def test_extends_lays_a_file_over_another_and_keeps_both_origins(tmp_path: Path) -> None:
    base = tmp_path / "base.toml"
    base.write_text('[train]\nepochs = 3\nseed = 1\n[task]\nkind = "pretrain"\ndata = "a"\n')
    top = tmp_path / "top.toml"
    top.write_text('extends = "base.toml"\n[train]\nsteps = 5\n[model]\nsize = "nano"\n')
    recipe = Recipe.load(str(top), ["train.batch_size=2"])
    assert recipe == Model(size="nano") | Train(steps=5, seed=1, batch_size=2) | Task.pretrain(
        data="a"
    )
    origins = {key: origin for key, _, origin in recipe.why()}
    assert origins["train.seed"] == f"{base}:3"
    assert origins["train.steps"] == f"{top}:3"
    assert origins["train.batch_size"] == "--set"
    assert origins["train.keep"] == "default"


def test_extends_to_another_kind_of_task_takes_none_of_its_keys(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('[task]\nkind = "pretrain"\ndata = "a"\neval_data = "b"\n')
    top = tmp_path / "top.toml"
    top.write_text('extends = "base.toml"\n[task]\nkind = "evaluate"\ndata = "c"\n')
    assert Recipe.load(str(top)) == Recipe(Task.evaluate(data="c"))


def test_extends_to_a_recipe_of_the_library() -> None:
    recipe = Recipe.from_toml('extends = "gpt2-124m-finetune"\n[task]\ndata = "my.txt"\n')
    assert recipe.parts["task"] == Task.finetune(data="my.txt", eval_data="wiki.valid.tokens")


def test_extends_in_a_circle_or_to_nothing_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text('extends = "other.toml"\n')
    other.write_text('\nextends = "one.toml"\n')
    with pytest.raises(SpecError, match=r"other\.toml:2  extends: .*leads back to itself"):
        Recipe.load(str(one))
    assert faults('extends = "gpt2-124m-finetun"\n') == [("G2-004", "x.toml:1", "extends")]
    assert "did you mean gpt2-124m-finetune" in message('extends = "gpt2-124m-finetun"\n')
    assert faults("extends = 3\n") == [("G2-201", "x.toml:1", "extends")]


def test_several_columns_of_text_are_told_to_be_joined_in_the_file() -> None:
    text = '[data]\nformat = "jsonl"\ntext_column = ["instruction", "answer"]\n'
    assert message(text) == (
        "x.toml:3  data.text_column: expected a column's name, or in csv and tsv its number "
        "from 0, found the list ['instruction', 'answer']; a row is one text: join its "
        "columns into one in the file first [G2-201]"
    )


def test_extends_in_a_table_is_told_to_stand_before_it(tmp_path: Path) -> None:
    text = '[train]\nsteps = 3\nextends = "base.toml"\n'
    assert message(text) == (
        "x.toml:3  extends: it stands in [train], and belongs at the top of the file, "
        "before the first table [G2-004]"
    )
    (tmp_path / "x.toml").write_text(text)
    (fault,) = specs.examine(str(tmp_path / "x.toml"))[1]
    assert (fault.code, fault.key) == ("G2-004", "extends")
    text = '[[stage]]\nextends = "quickstart"\n[[stage]]\n[stage.lora]\nextends = "base"\n'
    (tmp_path / "x.toml").write_text(text)
    (fault,) = specs.examine(str(tmp_path / "x.toml"))[1]
    assert (fault.origin, fault.key) == (f"{tmp_path / 'x.toml'}:5", "stage.2.extends")
    assert "directly below its [[stage]], before the first table" in fault.message


def test_a_fault_of_the_base_names_the_base(tmp_path: Path) -> None:
    base = tmp_path / "base.toml"
    base.write_text("[train]\nsede = 3\n")
    top = tmp_path / "top.toml"
    top.write_text('extends = "base.toml"\n[train]\nkepp = 3\n')
    with pytest.raises(SpecError) as caught:
        Recipe.load(str(top))
    assert [fault.origin for fault in caught.value.faults] == [f"{base}:2", f"{top}:3"]


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("train.seed", "G2-201"),
        ("seed=1", "G2-102"),
        ("trian.seed=1", "G2-102"),
        ("train.sede=1", "G2-101"),
        ("train.seed=x", "G2-201"),
    ],
)
def test_a_wrong_set_is_refused(setting: str, code: str) -> None:
    with pytest.raises(SpecError) as caught:
        Recipe.load("specs/quickstart.toml", [setting])
    assert [(fault.code, fault.origin) for fault in caught.value.faults] == [(code, "--set")]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            'task.data=["a.txt", "b.txt"]',
            "expected a string that is not empty, found the list ['a.txt', 'b.txt']; a folder or a "
            "pattern such as texts/*.txt names several files",
        ),
        (
            'model.weights=["a"]',
            "expected a string that is not empty, found the list ['a']",
        ),
        (
            "model.weights={a=1}",
            "expected a string that is not empty, found the table {'a': 1}",
        ),
        (
            "data.text_column=[1]",
            "expected a column's name, or in csv and tsv its number from 0, found the list",
        ),
        ('task.kind=["a"]', "expected one of pretrain"),
        ("runtime.output=[]", "expected a string that is not empty, found the list []"),
    ],
)
def test_set_takes_no_list_or_table_for_a_text(setting: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        Recipe.load("specs/quickstart.toml", [setting])
    (fault,) = caught.value.faults
    code = "G2-202" if setting.startswith("task.kind") else "G2-201"
    assert (fault.code, fault.origin) == (code, "--set")
    assert fault.message.startswith(expected)


def test_set_takes_what_only_begins_like_a_list_as_a_text() -> None:
    recipe = Recipe.load("specs/quickstart.toml", ["task.data=[draft] x.txt"])
    assert recipe.completed.task.data == "[draft] x.txt"  # type: ignore[union-attr]


def test_set_takes_toml_values_and_bare_strings() -> None:
    settings = ["train.seed=7", "optim.lr=3e-4", "task.data=my file.txt", 'runtime.output="out"']
    recipe = Recipe.load("specs/quickstart.toml", settings)
    values = {key: value for key, value, _ in recipe.why()}
    assert values["train.seed"] == 7
    assert values["optim.lr"] == 3e-4
    assert values["task.data"] == "my file.txt"
    assert values["runtime.output"] == "out"


def test_a_file_that_is_absent_or_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="can't be read: No such file"):
        Recipe.load(str(tmp_path / "none.toml"))
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"[model]\nsize = '\xff'\n")
    with pytest.raises(SpecError, match=r"bad\.toml:2: is not UTF-8: byte 16 is 0xff"):
        Recipe.load(str(bad))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    spec = tmp_path / "bom.toml"
    spec.write_bytes(b"\xef\xbb\xbf[train]\nseed = 1\n")
    assert Recipe.load(str(spec)) == Recipe(Train(seed=1))


def test_module_and_name_is_a_recipe_too() -> None:
    assert Recipe.load("recipes.quickstart:recipe") == Recipe.load("specs/quickstart.toml")
    with pytest.raises(SpecError, match="no module nowhere"):
        Recipe.load("nowhere:recipe")
    with pytest.raises(SpecError, match="expected a Recipe, there is none of that name"):
        Recipe.load("recipes.quickstart:nothing")


def test_another_task_keeps_the_values_that_it_has_too() -> None:
    recipe = Recipe.load("gpt2-124m-finetune", ["task.kind=evaluate"])
    assert recipe.parts["task"] == Task.evaluate(data="wiki.train.tokens")


def test_a_set_of_a_key_without_its_table_names_the_table() -> None:
    with pytest.raises(SpecError, match=r"expected table\.key: train\.epochs"):
        Recipe.load("quickstart", ["epochs=3"])


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("code", "line", "said"),
    [
        (
            "a = Model() | Data()\nrecipe = a | Task.evaluate(data='x') >> Train()",
            3,
            "TypeError: `>>`",
        ),
        ("import torchh", 2, "ModuleNotFoundError: No module named 'torchh'"),
        ("recipe = Model(", 2, "SyntaxError: "),
        ("recipe = 1 / 0", 2, "ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_of_a_users_module_is_told_with_its_line(code: str, line: int, said: str) -> None:
    name = f"mine_{abs(hash(code))}"
    Path(f"{name}.py").write_text(f"from gpt2dsl import Data, Model, Task, Train\n{code}\n")
    with pytest.raises(SpecError) as caught:
        Recipe.load(f"{name}:recipe")
    (fault,) = caught.value.faults
    assert fault.origin == f"{name}.py:{line}"
    assert fault.message.startswith(said)


def test_a_module_without_such_a_recipe_says_which_it_has() -> None:
    with pytest.raises(
        SpecError, match=r"expected a Recipe, there is none of that name; it has recipe \["
    ):
        Recipe.load("recipes.quickstart:recip")


MODULE = """
from gpt2dsl import Model, Task
part = Model()
callbacks = []
base = part | Task.pretrain(data="sample:train")
"""


@pytest.fixture
def modules(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, whose modules are forgotten afterwards."""
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return elsewhere


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("named", ["of_team.py", "of_team"])
def test_a_file_of_python_says_how_its_recipes_are_named(named: str) -> None:
    Path("of_team.py").write_text(MODULE)
    with pytest.raises(SpecError, match=r"of_team.py is Python; did you mean of_team:base\?"):
        Recipe.load(named)
    del sys.modules["of_team"]
    Path("of_team.py").write_text(f"{MODULE}chain = base >> base\n")
    with pytest.raises(SpecError, match=r"of_team.py is Python: .*, of_team:base, chain \["):
        Recipe.load(named)


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ("reviews", "reviews.toml"),
        ("reviews.tml", "reviews.toml"),
        ("reviws.toml", "reviews.toml"),
        ("deep/reviewz.toml", "deep/reviews2.toml"),
        ("nine.base", "nine:base"),
        ("nine.bse", "nine:base"),
        ("rating.recipes.small", "rating.recipes.small:base"),
        ("rating/recipes/small.py", "rating.recipes.small:base"),
        ("rating/recipes/small", "rating.recipes.small:base"),
        ("gpt2-124m-pretran", "gpt2-124m-pretrain"),
    ],
)
def test_a_name_of_no_recipe_gets_that_of_the_file_or_variable_that_is_meant(
    named: str, meant: str
) -> None:
    for file in ("reviews.toml", "deep/reviews2.toml"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text("")
    for file in ("nine.py", "rating/recipes/small.py"):
        Path(file).parent.mkdir(exist_ok=True, parents=True)
        Path(file).write_text(MODULE)
    with pytest.raises(SpecError, match=re.escape(f"did you mean {meant}? [G2-002]")):
        Recipe.load(named)


@pytest.mark.usefixtures("modules")
def test_a_base_that_is_not_there_gets_the_file_that_is_meant() -> None:
    Path("team").mkdir()
    Path("team/base.toml").write_text("")
    for named in ("base", "bas.toml"):
        Path("team/mine.toml").write_text(f'extends = "{named}"\n')
        with pytest.raises(SpecError, match=r"did you mean base\.toml\? \[G2-004"):
            Recipe.load("team/mine.toml")


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("named", ["this", "json.tool", "a" * 300, "a..b", "nowhere/x", "no.where"])
def test_other_names_import_nothing_and_get_no_hint(named: str) -> None:
    with pytest.raises(SpecError, match="is no recipe of the library") as caught:
        Recipe.load(named)
    assert "did you mean" not in str(caught.value)


def test_a_file_that_is_broken_and_extended_twice_is_broken_twice(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[train\n")
    stage = (
        '[[stage]]\nextends = "base.toml"\n[stage.task]\nkind = "pretrain"\ndata = "sample:train"\n'
    )
    (tmp_path / "chain.toml").write_text(stage * 2)
    with pytest.raises(SpecError) as caught:
        Chain.load(str(tmp_path / "chain.toml"))
    assert [(one.code, one.key) for one in caught.value.faults] == [
        ("G2-001", ""),
        ("G2-001", ""),
    ]


@pytest.mark.parametrize("name", ["absent.toml", "folder.toml", "no.module:recipe", "absent"])
def test_what_extends_lacks_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "x.toml").write_text(f'#\n\nextends = "{name}"\n[train]\nsteps = 3\n')
    with pytest.raises(SpecError) as caught:
        Recipe.load(str(tmp_path / "x.toml"))
    (fault,) = caught.value.faults
    assert (fault.code, fault.key) == ("G2-004", "extends")
    assert fault.origin == f"{tmp_path / 'x.toml'}:3"
    assert name in fault.message


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("optim.lr=.5", 0.5),
        ("optim.lr=1.", 1.0),
        ("optim.lr=2.e-3", 2e-3),
        ("optim.lr=+.5E1", 5.0),
        ("optim.lr=1e-3", 1e-3),
        ("schedule.warmup=.1", 0.1),
        ("task.data=2024-05-01", "2024-05-01"),
        ("task.data=07:30:00", "07:30:00"),
        ("task.data=.5", ".5"),
        ("task.data=5", "5"),
        ("task.data=true", "true"),
        ('task.data="a b"', "a b"),
        ("task.data=a # b", "a # b"),
        ("model.weights=124", "124"),
        ("data.text_column=3", 3),
        ("data.text_column='3'", "3"),
        ("classifier.labels=['a',\n'b']", ("a", "b")),
    ],
)
def test_a_value_of_the_command_line_is_read_as_its_key_wants_it(setting: str, value: Any) -> None:
    base = '[task]\nkind = "pretrain"\ndata = "a"\n'
    recipe = structured(read.overrides((setting,)).over(finding.recipe_text(base, "x")), "")[0]
    table, _, field = setting.partition("=")[0].partition(".")
    assert getattr(recipe.parts[table], field) == value
    assert type(getattr(recipe.parts[table], field)) is type(value)


def test_a_value_of_a_chains_stage_is_read_as_its_key_wants_it() -> None:
    values, _ = read.parse_settings(("stage.2.task.data=2024-05-01", "stage.1.optim.lr=.5"))
    assert [one.raw for one in values.values()] == ["2024-05-01", 0.5]


@pytest.mark.parametrize(
    "setting", ["train.steps=5\n[optim]", "optim.lr=1e-3\nbeta1 = 0.5", "task.data='a'\nb = 1"]
)
def test_what_follows_a_value_is_refused(setting: str) -> None:
    (fault,) = read.overrides((setting,)).faults
    assert (fault.code, fault.key) == ("G2-201", setting.partition("=")[0])
    assert "found more in the lines after it" in fault.message


@pytest.mark.parametrize("setting", ["train.steps=.5", "train.steps=2024-05-01", "train.steps=x"])
def test_a_value_of_no_reading_that_fits_is_refused(setting: str) -> None:
    with pytest.raises(SpecError, match="expected an integer"):
        Recipe.load("quickstart", [setting])


@pytest.mark.parametrize(
    "written",
    ["2024-05-01", "2024-05-01T10:00:00Z", "2024-05-01 10:00:00.50+02:00", "07:32:00"],
)
def test_a_date_without_quotes_is_the_text_that_was_written_as_with_set(written: str) -> None:
    recipe = Recipe.from_toml(f'[task]\nkind = "pretrain"\ndata = {written}  # of today\n')
    assert isinstance(recipe.completed.task, Pretrain)
    assert recipe.completed.task.data == written
    values, _ = read.parse_settings((f"task.data={written}",))
    assert values["task.data"].raw == written


def test_dates_in_a_list_of_texts_and_in_a_chain_are_texts_too() -> None:
    task = 'task = {kind = "generate", prompts = [2024-05-01, "x", 10:00:00]}'
    recipe = Recipe.from_toml(task)
    assert isinstance(recipe.completed.task, Generate)
    assert recipe.completed.task.prompts == ("2024-05-01", "x", "10:00:00")
    chain = Chain.from_toml('[[stage]]\n[stage.task]\nkind = "convert"\ntarget = 2024-05-01\n')
    assert isinstance(chain.recipes[0].completed.task, Convert)
    assert chain.recipes[0].completed.task.target == "2024-05-01"


def test_a_date_where_no_text_can_be_or_that_is_written_in_two_ways_is_refused() -> None:
    said = r"x.toml:2.*train.steps.*expected an integer.*the date 2024-05-01, without quotes"
    with pytest.raises(SpecError, match=said):
        Recipe.from_toml("[train]\nsteps = 2024-05-01\n", "x.toml")
    with pytest.raises(SpecError, match="the date 2024-05-01, without quotes"):
        Recipe.from_toml("[train]\nseq_length = 8\n").set("train.steps", date(2024, 5, 1))
    two = "2024-05-01T10:00:00Z"
    text = f'[task]\nkind = "pretrain"\ndata = {two}\neval_data = {two.replace("T", " ")}\n'
    with pytest.raises(SpecError, match=r"task.data.*expected a string.*without quotes"):
        Recipe.from_toml(text)
