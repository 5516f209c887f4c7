"""The eight configurations of the real mindformers 0.8.0."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl.spec.mindformers import carrying, document
from tests.spec.mindformers_files import CHANGES, write

CONFIGS = ".judges/lib/python3.9/site-packages/configs/gpt2"


@pytest.mark.judges
@pytest.mark.parametrize("name", CHANGES)
def test_the_real_files_become_the_recipes_of_the_facts(tmp_path: Path, name: str) -> None:
    path = Path(__file__).parents[2] / CONFIGS / f"{name}.yaml"
    real = carrying.carry(document.read(path))
    facts = carrying.carry(document.read(write(tmp_path, name)))
    assert real.tables == facts.tables
    fates = {line.entry.key: line.fate for line in facts.lines}
    assert {line.entry.key: line.fate for line in real.lines if line.entry.key in fates} == {
        key: fate for key, fate in fates.items() if key in {one.entry.key for one in real.lines}
    }


@pytest.mark.judges
def test_the_fixtures_have_all_configurations() -> None:
    folder = Path(__file__).parents[2] / CONFIGS
    assert sorted(path.stem for path in folder.glob("*.yaml")) == sorted(CHANGES)
