"""What decides a result is in the identity of its run: by content, and never by name or time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2dsl import Generation, LoRA, Model, Recipe, SpecError, Task, Train
from gpt2dsl.identity.identity import Identity
from tests.adapters import save_adapter
from tests.vocabularies import random_model, vocabulary

TEXT = "the cat sat on the mat and the old dog ran\n" * 40


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with a tokenizer, an adapter on them, training and held-out text, prompts."""
    folder = tmp_path_factory.mktemp("project")
    vocabulary(folder / "m")
    random_model(264, n_embd=8, n_positions=32).save_pretrained(folder / "m")
    save_adapter(folder / "m", folder / "a", target_modules=["c_attn"], task_type="CAUSAL_LM")
    for name in ("train.txt", "valid.txt", "prompts.txt"):
        (folder / name).write_text(f"{name}\n{TEXT}")
    return folder


def recipes(project: Path) -> list[Recipe]:
    """One of each kind that reads something."""
    weights, rows = Model(weights=str(project / "m")), Train(seq_length=16, batch_size=2, steps=3)
    train, valid = str(project / "train.txt"), str(project / "valid.txt")
    prompts = str(project / "prompts.txt")
    return [
        weights | rows | Task.finetune(data=train, eval_data=valid),
        weights | rows | LoRA(r=2) | Task.finetune(data=train, eval_data=valid),
        weights | rows | Task.evaluate(data=valid),
        weights | Generation(max_new_tokens=3) | Task.generate(prompts=prompts),
        Model(weights=str(project / "a")) | rows | Task.evaluate(data=valid),
        Recipe(Task.convert(source=str(project / "m"), target=str(project / "t"))),
    ]


def identity(recipe: Recipe) -> Identity | None:
    """With all contents read; None where something is refused."""
    try:
        plan = recipe.plan()
        return None if plan.refusals() else plan.identified()
    except SpecError:
        return None


def identities(project: Path) -> list[Identity | None]:
    return list(map(identity, recipes(project)))


READ = {
    "train.txt": {0, 1}, "valid.txt": {0, 1, 2, 4}, "prompts.txt": {3},
    "m": {0, 1, 2, 3, 4, 5}, "a": {4},
}  # fmt: skip
"""File or folder → the recipes that read it."""


@given(st.data())
@settings(max_examples=25)
def test_a_byte_of_what_is_read_changes_the_identity_of_every_run_that_reads_it(
    project: Path, data: st.DataObject
) -> None:
    files = [path for path in sorted(project.rglob("*.*")) if path.name != "README.md"]
    path = data.draw(st.sampled_from(files))
    content, before = path.read_bytes(), identities(project)
    place = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[place] ^= data.draw(st.sampled_from([1, 2, 4, 32]))
    status = path.stat()
    try:
        path.write_bytes(changed)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        after = identities(project)
    finally:
        path.write_bytes(content)
    readers = READ[path.relative_to(project).parts[0]]
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        assert one is not None
        assert (other is None or other.digest != one.digest) or number not in readers
        assert other is not None or number in readers
        if number not in readers:
            assert other == one


def test_what_is_moved_copied_touched_or_linked_is_the_same(project: Path, tmp_path: Path) -> None:
    before = identities(project)
    copied = tmp_path / "copied"
    shutil.copytree(project, copied)
    for path in copied.rglob("*"):
        os.utime(path)
    moved = copied.rename(tmp_path / "moved")
    (tmp_path / "linked").mkdir()
    for path in moved.iterdir():
        (tmp_path / "linked" / path.name).symlink_to(path)
    for place in (moved, tmp_path / "linked"):
        after = identities(place)
        assert [one and one.contents for one in after] == [one and one.contents for one in before]


def test_a_document_beside_the_weights_decides_nothing(project: Path) -> None:
    before = identities(project)
    readme = project / "m" / "README.md"
    readme.write_text("A model.")
    after = identities(project)
    readme.unlink()
    assert after == before
