from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpt2dsl.cli.main import cli
from gpt2dsl.recipe import Recipe
from tests.spec.mindformers_files import CHANGES, write


def run(*words: object, code: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(cli, list(map(str, words)), standalone_mode=False)
    assert bool(done.exception) == bool(code), done.exception
    return done.stdout, done.stderr + str(done.exception or "")


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_printed_is_a_recipe_that_can_be_planned(tmp_path: Path, name: str) -> None:
    out, err = run("import", write(tmp_path, name))
    recipe = Recipe.from_toml(out)
    world = {"run_gpt2_xl": 8, "run_gpt2_13b": 32, "run_gpt2_13b_910b": 8, "run_gpt2_52b": 128}
    if name in world:
        assert recipe.plan().world == world[name]
    assert "keys carried over\n" in err
    assert "no effect: " in err
    out, _ = run("import", tmp_path / f"{name}.yaml", "--as", "python")
    scope: dict[str, object] = {}
    exec(out, scope)  # noqa: S102
    assert scope["recipe"] == recipe


def test_json_has_the_fate_of_every_key(tmp_path: Path) -> None:
    found = json.loads(run("import", write(tmp_path, "run_gpt2"), "--json")[0])
    fates = {one["key"]: one["fate"] for one in found["keys"]}
    assert fates["runner_config.epochs"] == "carried over"
    assert fates["runner_config.sink_mode"] == "no effect"
    assert "[task]" in found["recipe"]


def test_nothing_is_printed_of_a_file_with_an_unknown_key(tmp_path: Path) -> None:
    out, err = run("import", write(tmp_path, "run_gpt2", {"sed": 1}), code=2)
    assert out == ""
    assert "knows no such key; did you mean seed? Delete the line if it is not needed" in err


def test_a_file_or_a_command_is_expected() -> None:
    assert "expected FILE.yaml, or --command TEXT" in run("import", code=2)[1]
