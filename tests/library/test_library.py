from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gpt2dsl import Recipe, SpecError, library
from gpt2dsl.chain import specs
from gpt2dsl.cli.main import main

SPECS = sorted(Path("specs").glob("*.toml"))


def test_every_spec_is_in_the_library_and_equal_to_its_python_twin() -> None:
    names = {entry.name for entry in library.entries() if entry.package == "gpt2dsl"}
    assert names >= {spec.stem for spec in SPECS}
    for spec in SPECS:
        assert specs.load(spec.stem) == specs.load(str(spec))


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(SpecError, match="did you mean gpt2-124m-pretrain"):
        Recipe.load("gpt2-124m-pretran")


def test_a_name_with_a_fraction_is_found_by_its_module() -> None:
    assert library._name("gpt2_1_5b_finetune_lora") == "gpt2-1.5b-finetune-lora"


BUILT = """
from gpt2dsl import Recipe

recipe = Recipe.load("gpt2-124m-pretrain").set("train.steps", 5)
"""


@pytest.fixture
def site(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of installed packages, beside an empty working directory."""
    found = elsewhere / "site"
    found.mkdir()
    monkeypatch.syspath_prepend(str(found))
    project = elsewhere / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    library._tell.cache_clear()
    return found


def installed(site: Path, name: str, **modules: str) -> None:
    """Install a package of recipes; () is one whose folder is gone."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gpt2dsl.recipes]\nteam = {name}\n")
    if modules:
        (site / name).mkdir()
    for module, text in modules.items():
        (site / name / f"{module}.py").write_text(text)


def listed(capsys: pytest.CaptureFixture[str]) -> tuple[set[str], list[str]]:
    """The recipes that `list` shows, and what it says beside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["gpt2dsl", "list"])
        with pytest.raises(SystemExit) as stop:
            main()
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    return {line.split()[0] for line in out.splitlines()[1:]}, err.splitlines()


@pytest.mark.parametrize(
    "modules",
    [
        {"__init__": "import a_library_that_is_gone\n"},
        {"__init__": "raise SystemExit(3)\n"},
        {"__init__": "def broken(:\n"},
        {},
    ],
)
def test_a_package_that_can_not_be_imported_is_named_once_and_the_rest_goes_on(
    site: Path, modules: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    installed(site, "team_recipes", **modules)
    shown, said = listed(capsys)
    assert shown >= {spec.stem for spec in SPECS}
    Path("spec.toml").write_text('extends = "quickstart"\n')
    assert Recipe.load("spec.toml") == Recipe.load("quickstart")
    assert len(said) == 1
    assert said[0].startswith("passed over: the package of recipes team_recipes of team_recipes")
    assert not capsys.readouterr().err


def test_a_recipe_that_can_not_be_imported_is_named_and_the_others_are_listed(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(site, "team_recipes", __init__="", good=BUILT, bad="1 / 0\n", quickstart=BUILT)
    shown, said = listed(capsys)
    assert shown >= {spec.stem for spec in SPECS} | {"good"}
    assert len(said) == 1
    assert "passed over: bad of team_recipes: bad.py:1" in said[0]
    with pytest.raises(SpecError, match="is in gpt2dsl and in team_recipes; say module:name"):
        Recipe.load("quickstart")
    assert Recipe.load("team_recipes.good:recipe") == Recipe.load("good")


def test_helpers_in_a_package_of_recipes_are_left_alone(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(
        site, "team_recipes", __init__="", good=BUILT, helpers="RATE = 1\n",
        _private="recipe = 1 / 0\n", nothing="recipe = None\n",
    )  # fmt: skip
    shown, said = listed(capsys)
    assert "good" in shown
    assert not shown & {"helpers", "_private", "-private", "nothing"}
    (line,) = said
    assert "passed over: nothing of team_recipes" in line
    assert "expected a Recipe, found None" in line
    with pytest.raises(SpecError, match="helpers: is no recipe of the library"):
        Recipe.load("helpers")
    team = {entry.name for entry in library.entries() if entry.package == "team_recipes"}
    assert team == {"good", "nothing"}


@pytest.mark.parametrize("first", ["library", "project"])
@pytest.mark.usefixtures("site")
def test_a_projects_own_folder_recipes_stands_beside_the_library(first: str) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "recipes"]:
        del sys.modules[name]
    Path("recipes").mkdir()
    Path("recipes/__init__.py").write_text("")
    Path("recipes/team.py").write_text(BUILT)
    names = ["gpt2-124m-pretrain", "recipes.team:recipe"]
    loaded = {name: Recipe.load(name) for name in (names if first == "library" else names[::-1])}
    assert loaded["recipes.team:recipe"] == loaded[names[0]].set("train.steps", 5)


@pytest.mark.usefixtures("site")
def test_what_a_recipe_is_beside_can_be_imported_later() -> None:
    Path("helper.py").write_text("ANSWER = 42\n")
    Path("mine.py").write_text(f"{BUILT}\n\ndef answer():\n    import helper\n    return helper\n")
    Recipe.load("mine:recipe")
    assert sys.modules["mine"].answer().ANSWER == 42
