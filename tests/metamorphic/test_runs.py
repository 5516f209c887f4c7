"""After a change the same command gives what a fresh folder gives, or refuses by name."""

from __future__ import annotations

import gc
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from gpt2dsl.parts import TABLES, TASKS
from tests.metamorphic import changes, projects
from tests.metamorphic.changes import KEYS, Change, relink, touch
from tests.metamorphic.outcomes import Outcome, differing, run
from tests.metamorphic.projects import PROJECTS, SPEC, Project

ONE_RANK = [project for project in PROJECTS if project.ranks == 1]
CHAINS = [project for project in PROJECTS if len(project.stages) > 1]
COMMAND = ("run", SPEC)

TAIL = 900
"""Characters of an output that are shown."""

SHARE_OF_RANKS = 0.05
"""The share of draws in which several ranks may run, which takes half a minute."""


class Folders:
    """Projects as they are after a run, each made once.

    Args:
        root: where they lie.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.inputs = root, root / "inputs"
        self.inputs.mkdir()
        projects.make_inputs(self.inputs)
        first = projects.copy(self.inputs, root / "first")
        PROJECTS[0].write(first)
        assert run(first, *COMMAND).code == 0
        (checkpoint,) = first.glob("runs/*/checkpoints/step-2")
        projects.copy(checkpoint, self.inputs / "begun" / "step-2")
        self._made: dict[tuple[str, str], tuple[Path, Outcome]] = {}

    def after(self, project: Project, pause: str) -> tuple[Path, Outcome]:
        """Return the project after a run to its end, or to a pause, and the run's outcome."""
        key = (project.name, pause)
        if key not in self._made:
            folder = projects.copy(self.inputs, self.root / f"after {len(self._made)}")
            project.write(folder)
            outcome = run(folder, *COMMAND, pause=pause)
            assert outcome.code == bool(pause), outcome.text
            self._made[key] = folder, outcome
        return self._made[key]

    def fresh(self, project: Project) -> Path:
        """Return the project as it is before any run."""
        folder = projects.copy(self.inputs, self.root / "fresh")
        project.write(folder)
        return folder

    def again(self, project: Project, pause: str) -> Path:
        """Return a copy of the project after a run."""
        return projects.copy(self.after(project, pause)[0], self.root / "again")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("projects"))


def judged(folders: Folders, project: Project, pause: str, change: Change) -> str:
    """Return what becomes of a change: equal, refused, told, or how it differs in silence."""
    changed, unused = folders.again(project, pause), folders.fresh(project)
    for folder in (changed, unused):
        change.apply(project, folder)
    again = run(changed, *COMMAND)
    if "fault of gpt2dsl" in again.text or "Traceback" in again.text:
        return f"a traceback: {again.text[-TAIL:]}"
    names = (*change.names, "is there already")
    if again.code and any(name in again.text for name in names):
        return "refused by name"
    fresh = run(unused, *COMMAND)
    if fresh.code or again.code:
        alike = "refused as in a fresh folder"
        silent = f"differs: fresh {fresh.text[-TAIL:]}\nagain: {again.text[-TAIL:]}"
        return alike if fresh.code and again.code else silent
    places = differing(fresh.results, again.results, 1e-4 if change.is_numerical else 0)
    if not places:
        return "equal"
    told = re.findall("changed since the checkpoint was written: (.*);", again.text)
    is_told = any(key in line for key in project.keys_of(change.file) for line in told)
    if is_told and not any(place.endswith(".safetensors") for place in places):
        return "told"
    return f"differs in silence: {places}\nagain: {again.text[-TAIL:]}"


def draw_cases(folders: Folders, number: int, count: int, log: Path | None = None) -> None:
    """Judge so many changes; none may differ in silence."""
    fates: Counter[str] = Counter()
    wrong: list[str] = []
    rng = Random(number)
    for _ in range(count):
        project = rng.choice(PROJECTS if rng.random() < SHARE_OF_RANKS else ONE_RANK)
        pause = rng.choice(["", project.pause]) if project.ranks == 1 else ""
        change = changes.change(rng, project, folders.inputs)
        fate = judged(folders, project, pause, change)
        fates[fate.partition(":")[0]] += 1
        if fate.startswith(("differs", "a traceback")):
            wrong.append(f"{project.name}, paused at {pause!r}, {change}\n{fate}")
        if log:
            log.write_text("\n\n".join([str(fates), *wrong]))
        gc.collect()
    assert not wrong, "\n\n".join([str(fates), *wrong])


@pytest.mark.soak
@pytest.mark.timeout(14400)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_any_change_is_as_in_a_fresh_folder_or_refused_by_name(
    number: int, folders: Folders, pytestconfig: pytest.Config
) -> None:
    draw_cases(folders, number, 300, pytestconfig.rootpath / f".metamorphic-{number}.log")


@pytest.mark.filterwarnings("ignore")
def test_some_changes_are_as_in_a_fresh_folder_or_refused_by_name(folders: Folders) -> None:
    draw_cases(folders, 0, 6)  # make soak draws 900


def test_every_key_of_every_part_is_changed() -> None:
    parts = [part for table, part in TABLES.items() if table != "task"] + list(TASKS.values())
    keys = {f"{part.table}.{key}" for part in parts for key in part.rules()}
    assert keys | {"task.kind"} == set(KEYS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("project", CHAINS, ids=lambda project: project.name)
def test_a_finished_chain_that_is_moved_copied_touched_or_relinked_runs_nothing(
    project: Project, folders: Folders
) -> None:
    _, outcome = folders.after(project, "")
    copied = folders.again(project, "")
    touch(copied)
    moved = copied.rename(folders.root / f"moved {project.name}")
    relink(moved)
    again = run(moved, *COMMAND)
    assert again.code == 0, again.text
    assert again.text.count("unchanged, not run again") == len(project.stages)
    assert not differing(outcome.results, again.results, 0)


@pytest.mark.filterwarnings("ignore")
def test_an_interrupted_run_that_is_moved_touched_and_relinked_goes_on(folders: Folders) -> None:
    project = PROJECTS[0]
    _, whole = folders.after(project, "")
    copied = folders.again(project, project.pause)
    touch(copied)
    moved = copied.rename(folders.root / "moved")
    relink(moved)
    again = run(moved, *COMMAND)
    assert again.code == 0, again.text
    assert "step-3: step 3 of 4" in again.text
    assert not differing(whole.results, again.results, 0)


def test_other_held_out_text_drops_what_was_found_on_the_former(folders: Folders) -> None:
    project = PROJECTS[0]
    changed, unused = folders.again(project, project.pause), folders.fresh(project)
    for folder in (changed, unused):
        (folder / "valid.txt").write_text("the old mat\n" * 3)
    again, fresh = run(changed, *COMMAND), run(unused, *COMMAND)
    assert "changed since the checkpoint was written: the contents of task.eval_data" in again.text
    place = next(place for place in fresh.results if place.endswith("result.json"))
    run_folder = place.removesuffix("result.json")
    assert again.results[place][0]["loss"] == fresh.results[place][0]["loss"]
    assert run_folder + "before.json" in fresh.results
    assert run_folder + "before.json" not in again.results
    first, *rest = fresh.results[run_folder + "metrics.jsonl"]
    assert "eval_loss" in first
    assert again.results[run_folder + "metrics.jsonl"] == rest


def test_a_chain_keeps_the_names_of_its_classes(folders: Folders) -> None:
    (project,) = (project for project in CHAINS if "classify" in project.name)
    _, outcome = folders.after(project, "")
    scores, (said,) = (
        next(outcome.results[place] for place in outcome.results if task in place)
        for task in ("evaluate-", "classify-")
    )
    assert {"rain", "sun"} >= set(said["classes"]) != set()
    assert "LABEL_" not in outcome.text + repr(scores)


def test_a_finished_classifier_that_is_run_again_tells_its_last_evaluation_once(
    folders: Folders,
) -> None:
    (project,) = (project for project in PROJECTS if project.name == "finetune classes")
    _, outcome = folders.after(project, "")
    again = run(folders.again(project, ""), *COMMAND)
    assert not differing(outcome.results, again.results, 0)
