"""What conversions and exports write, and the disk that is too full for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2dsl import Data, Model, Recipe, Task, Train
from gpt2dsl.chain.chain import Chain
from gpt2dsl.lite import opening
from gpt2dsl.parts.task import Conversion
from gpt2dsl.plan.plan import Plan
from tests.adapters import save_adapter, save_base

pytestmark = pytest.mark.usefixtures("elsewhere")

PARAMETERS = 40 * 8 + 16 * 8 + 2 * (12 * 8 * 8 + 13 * 8) + 2 * 8
FLOAT32 = 4 * PARAMETERS


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("written") / "base")


@pytest.fixture(scope="module")
def adapter(weights: Path) -> Path:
    save_adapter(weights, weights.parent / "adapter", r=2, target_modules=["c_attn"])
    return weights.parent / "adapter"


def plan(task: Conversion) -> Plan:
    return Recipe(task).plan()


@pytest.mark.parametrize(
    ("to", "dtype", "size"),
    [
        ("hf", "", FLOAT32),
        ("hf", "bfloat16", FLOAT32 // 2),
        ("mindformers", "", FLOAT32),
        ("mindformers", "float16", FLOAT32 // 2),
    ],
)
def test_a_conversion_says_the_bytes_of_its_tensors(
    weights: Path, to: str, dtype: str, size: int
) -> None:
    found = plan(Task.convert(source=str(weights), target="out", to=to, dtype=dtype))
    assert found.written
    assert found.written.size == size
    assert f"  disk    {size / 1000:.1f} kB of weights\n" in str(found)
    assert found.run().size == size


def test_an_adapter_by_itself_is_small_and_merged_as_large_as_its_base(
    adapter: Path,
) -> None:
    whole = plan(Task.convert(source=str(adapter), target="whole", merge=True))
    assert whole.written
    assert whole.written.size == FLOAT32
    for dtype, width in (("", 4), ("float16", 2)):
        alone = plan(Task.convert(source=str(adapter), target=f"a{width}", to="peft", dtype=dtype))
        assert alone.written
        assert alone.written.size == width * 2 * (2 * 8 + 2 * 24)
        assert "  disk " in str(alone)


@pytest.mark.parametrize(
    ("keys", "size", "words"),
    [
        ({"format": "onnx"}, FLOAT32, "8.8 kB of weights"),
        ({"format": "onnx", "dtype": "float16"}, FLOAT32 // 2, "4.4 kB of weights"),
        ({"format": "mindir"}, 2 * FLOAT32, "17.7 kB of weights: 2 graphs with 8.8 kB each"),
        ({"format": "mindir", "cache": False}, FLOAT32, "8.8 kB of weights"),
        (
            {"format": "ms", "dtype": "float16"},
            2 * FLOAT32,
            "17.7 kB of weights: 2 graphs with 8.8 kB each; 4.4 kB more until it is done",
        ),
    ],
)
def test_each_graph_of_an_export_has_all_weights(
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    keys: dict[str, Any],
    size: int,
    words: str,
) -> None:
    monkeypatch.setattr(opening, "unwritable", lambda _: "")
    found = plan(Task.export(source=str(weights), target="out", **keys))
    assert found.written
    assert found.written.size == size
    assert f"  disk    {words}\n" in str(found)


@pytest.mark.parametrize(
    ("task", "room"),
    [
        (Task.convert(source="base", target="deep/out"), FLOAT32),
        (Task.convert(source="base", target="out.ckpt", to="mindformers"), FLOAT32),
        (Task.convert(source="adapter", target="out", to="peft"), 512),
        (Task.export(source="base", target="out"), 2 * FLOAT32),
        (Task.export(source="base", target="out", format="ms"), 3 * FLOAT32),
    ],
)
def test_a_disk_that_is_too_small_is_refused_by_the_plan(
    adapter: Path, monkeypatch: pytest.MonkeyPatch, task: Conversion, room: int
) -> None:
    monkeypatch.chdir(adapter.parent)
    monkeypatch.setattr(opening, "unwritable", lambda _: "")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: (9, 9, room))
    assert not plan(task).refusals()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: (9, 9, room - 1))
    (refusal,) = plan(task).refusals()
    assert refusal.code == "G2-308"
    assert "are to be written" in refusal.message
    assert refusal.message.endswith("make room, or name a target on another disk")
    assert str(plan(task)).endswith("1 input is refused; a run is refused.")


def test_weights_that_are_still_to_be_made_are_counted_as_far_as_that_is_known() -> None:
    small = Model(size="nano", layers=1, hidden=32) | Data(tokenizer="train", vocab=512)
    train = small | Train(steps=1, batch_size=2, seq_length=8) | Task.pretrain(data="sample:train")
    made = Chain(train, Recipe(Task.export(target="a")), Recipe(Task.convert(target="b")))
    _, export, convert = made.plan().stages
    assert export.plan.written
    assert export.plan.written.size == 2 * 4 * export.plan.parameters
    assert convert.plan.written is None
    assert "  disk " not in str(convert.plan)


def test_a_source_that_is_refused_has_no_line_of_its_own() -> None:
    for task in (
        Task.convert(source="none/here", target="out"),
        Task.convert(source="none/here", target="out", to="peft"),
        Task.export(source="none/here", target="out"),
    ):
        assert "  disk " not in str(plan(task))


def test_a_conversion_is_called_after_the_size_of_its_weights(
    weights: Path, tmp_path: Path
) -> None:
    nano = tmp_path / "nano"
    GPT2LMHeadModel(GPT2Config(n_positions=256, n_embd=128, n_layer=4, n_head=4)).save_pretrained(
        nano
    )
    for source, size in ((nano, "nano-"), (weights, ""), (tmp_path / "absent", "")):
        for task in (
            Task.export(source=str(source), target="x"),
            Task.convert(source=str(source), target="x"),
        ):
            assert plan(task).name == f"gpt2-{size}{task.kind}"
