from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2dsl.errors import SpecError
from gpt2dsl.library import scaffold
from tests.engine.conftest import text

SMALL = [
    "model.size=nano", "model.layers=2", "model.heads=2", "model.hidden=32", "train.steps=2",
    "data.tokenizer=train", "data.vocab=300", "train.seq_length=32", "task.eval_data=",
    "train.best=false",
]  # fmt: skip

CALLBACKS = """
import gpt2dsl

class Mine(gpt2dsl.Callback):
    def on_start(self, start):
        print("mine is told")

callbacks = [Mine()]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that has such a package installed."""
    parent = tmp_path_factory.mktemp("new")
    folder = scaffold.write("acme-texts", parent)
    site = parent / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, str(folder)], check=True, capture_output=True)
    cache = str(parent / "cache")
    return {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{Path.cwd()}", "GPT2DSL_CACHE": cache}


def gpt2dsl(environment: dict[str, str], *words: object) -> str:
    command = [sys.executable, "-m", "gpt2dsl", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_package_of_ones_own_is_listed_planned_and_run(
    installed: dict[str, str], tmp_path: Path
) -> None:
    name = "gpt2-124m-pretrain-acme-texts"
    (line,) = (line for line in gpt2dsl(installed, "list").splitlines() if name in line)
    assert line.split() == [name, "0.1.0", "pretrain", "124m", "1", "acme-texts"]
    shown = gpt2dsl(installed, "show", name)
    assert "lr = 5e-05" in shown
    assert "weight_decay" not in shown
    data = tmp_path / "data.txt"
    data.write_text(text(60))
    (module,) = Path(installed["PYTHONPATH"].split(os.pathsep)[0]).glob("*/gpt2_124m*.py")
    module.write_text(module.read_text() + CALLBACKS)
    changes = [*SMALL, f"task.data={data}", f"runtime.output={tmp_path}"]
    said = gpt2dsl(installed, "run", name, *(word for one in changes for word in ("--set", one)))
    assert f"{tmp_path}/{name}-" in said
    assert "mine is told" in said


def test_its_tests_pass_below_a_folder_with_settings_of_pytest(
    installed: dict[str, str], tmp_path: Path
) -> None:
    strict = "[tool.pytest.ini_options]\naddopts = '--strict-config --unknown-option'\n"
    (tmp_path / "pyproject.toml").write_text(strict)
    folder = scaffold.write("acme-texts", tmp_path)
    site = Path(installed["PYTHONPATH"].split(os.pathsep)[0])
    for name in ("helpers", "_mixer"):
        (site / "acme_texts" / f"{name}.py").write_text("RATE = 5e-5\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=folder, env=installed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_names_that_are_none_and_folders_that_are_there_are_refused(tmp_path: Path) -> None:
    for name in ("Acme", "acme texts", "1a", "a-", ""):
        with pytest.raises(SpecError, match="expected lower case letters"):
            scaffold.write(name, tmp_path)
    scaffold.write("a", tmp_path)
    with pytest.raises(SpecError, match="is there already"):
        scaffold.write("a", tmp_path)
