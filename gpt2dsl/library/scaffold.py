"""Scaffolding of an installable package of a team's recipes."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from gpt2dsl.errors import Fault, FileError, SpecError
from gpt2dsl.files import atomic, cache

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$name"
version = "0.1.0"
description = "Recipes for gpt2dsl"
requires-python = ">=3.10"
dependencies = ["gpt2dsl"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points."gpt2dsl.recipes"]
$name = "$package"

[tool.setuptools]
packages = ["$package"]

[tool.pytest.ini_options] # without it, pytest would take the settings of a folder above
testpaths = ["tests"]
""",
    "README.md": """\
# $name

Recipes for gpt2dsl, one a module of `$package/`, each called `recipe`.

```
pip install -e '.[test]'
gpt2dsl list
gpt2dsl plan $recipe
gpt2dsl run $recipe --set task.data=our-text.txt --set task.eval_data=held-out.txt
python -m pytest
```

A module's name is its recipe's: `$module.py` is found as `$recipe`. Names say what a recipe is:
`gpt2-<size>-<task>[-<variant>]`. Modules without `recipe`, and those whose name begins with an
underscore, are no recipes: helpers may be in them. Before you share a recipe:

- [ ] its docstring says what it is for, on which data, and what it gave
- [ ] it extends a recipe of the library and sets only what differs
- [ ] `gpt2dsl plan` shows the memory and the layout that you mean
- [ ] data is named as whoever runs it has it, not as your machine has it
- [ ] the version in `pyproject.toml` has grown
""",
    "$package/__init__.py": '''\
"""Recipes of $name: one a module, called ``recipe``."""
''',
    "$package/$module.py": '''\
"""GPT-2 124M from new weights, as the library has it, with half the rate and a best checkpoint."""

from gpt2dsl import Recipe

base = Recipe.load("gpt2-124m-pretrain")
recipe = base.set("optim.lr", 5e-5).set("train.best", True).set("train.evaluate_every", 100)
''',
    "tests/test_recipes.py": '''\
"""Every recipe of this package loads, can be planned, and is found by its name."""

import pytest

from gpt2dsl import Recipe, library

NAMES = [entry.name for entry in library.entries() if entry.package == "$name"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_can_be_planned(name: str) -> None:
    assert Recipe.load(name).plan().digest


def test_there_are_recipes() -> None:
    assert NAMES
''',
}


def write(name: str, parent: Path) -> Path:
    """Write a package into a new folder with its name, and return the folder.

    Raises:
        SpecError: the name is invalid, or the folder exists already.
        RunError: the folder can't be written.
    """
    if not _NAME.fullmatch(name):
        message = f"expected lower case letters, digits and dashes, found {name!r}"
        raise SpecError([Fault("G2-202", "", "NAME", message)])
    folder = cache.expanded(parent) / name
    if folder.exists():
        raise SpecError([Fault("G2-308", "", str(folder), "is there already")])
    package = name.replace("-", "_")
    module = f"gpt2_124m_pretrain_{package}"
    words = {
        "name": name, "package": package, "module": module, "recipe": module.replace("_", "-"),
    }  # fmt: skip
    try:
        with atomic.writing_folder(folder) as new:
            for path, text in _FILES.items():
                file = new / Template(path).substitute(words)
                file.parent.mkdir(exist_ok=True)
                file.write_text(Template(text).substitute(words), "utf-8")
    except OSError as error:
        raise FileError.unwritable(folder, error) from error
    return folder
