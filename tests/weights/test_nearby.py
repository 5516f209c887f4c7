"""Which base an adapter belongs to, where its project was moved or copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2dsl.weights import nearby, opening, writing
from gpt2dsl.weights.infer_config import Overrides

HINTS = Overrides()


def base(folder: Path) -> None:
    config = GPT2Config(vocab_size=60, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a base, and an adapter on it as we write one."""
    found = tmp_path / "project"
    base(found / "m")
    model = get_peft_model(
        GPT2LMHeadModel.from_pretrained(found / "m"),
        LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True),
    )
    model.save_pretrained(tmp_path / "peft")
    adapter = opening.adapter(tmp_path / "peft", HINTS)
    assert adapter.base == str(found / "m")
    (found / "runs").mkdir()
    writing.to_peft(found / "runs" / "a", adapter, source="peft", dtype="", moved=lambda _: None)
    nearby._tell.cache_clear()
    return found


def base_of(adapter: Path) -> Path:
    found = opening.opened(adapter, HINTS)
    assert found.base
    return found.base.location.folder


def test_a_project_that_was_copied_has_its_own_base(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert base_of(project / "runs" / "a") == project / "m"
    copy = project.with_name("copy")
    shutil.copytree(project, copy)
    base(copy / "m")
    for _ in range(2):
        assert base_of(copy / "runs" / "a") == copy / "m"
    assert opening.adapter(copy / "runs" / "a", HINTS).base == str(copy / "m")
    (told,) = capsys.readouterr().err.splitlines()
    assert told.endswith(f"{copy / 'm'}, in its own project, and not {project / 'm'}")


def test_an_adapter_that_is_written_again_in_a_copied_project_belongs_to_the_base_there(
    project: Path,
) -> None:
    copy = project.with_name("copy")
    shutil.copytree(project, copy)
    base(copy / "m")
    adapter = opening.adapter(copy / "runs" / "a", HINTS)
    again = copy / "runs" / "again"
    writing.to_peft(again, adapter, source="a", dtype="float16", moved=lambda _: None)
    assert base_of(again) == copy / "m"
    assert AutoPeftModelForCausalLM.from_pretrained(again).peft_config[
        "default"
    ].base_model_name_or_path == str(copy / "m")


def test_a_project_that_was_moved_keeps_its_base_without_a_word(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = project.rename(project.with_name("moved"))
    assert base_of(moved / "runs" / "a") == moved / "m"
    assert not capsys.readouterr().err


def test_an_adapter_that_was_moved_alone_has_the_base_that_it_names(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tmp_path / "elsewhere" / "deeper" / "a"
    shutil.copytree(project / "runs" / "a", alone)
    assert base_of(alone) == project / "m"
    monkeypatch.chdir(tmp_path)
    assert AutoPeftModelForCausalLM.from_pretrained(str(alone))  # PEFT needs none of this


def test_the_base_of_an_adapter_that_says_another_by_now_is_that(project: Path) -> None:
    adapter = project / "runs" / "a"
    assert nearby.base_of(adapter, "openai-community/gpt2") == "openai-community/gpt2"
    assert nearby.base_of(adapter, str(project / "n")) == str(project / "n")
    assert nearby.noted(adapter, "openai-community/gpt2") == {}
