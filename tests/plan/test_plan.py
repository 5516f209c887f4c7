from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import (
    Classifier,
    Data,
    LoRA,
    Model,
    Optim,
    Parallel,
    Recipe,
    Runtime,
    Schedule,
    SpecError,
    Task,
    Train,
)
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.task import Conversion
from gpt2dsl.plan.stages import stages_of
from gpt2dsl.plan.tasks import plan_of
from gpt2dsl.plan.training import trained_shapes

SAMPLE = Model(size="nano") | Task.pretrain(data="sample:train") | Train(seq_length=64)


def codes(recipe: Recipe) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        recipe.plan()
    return [(fault.code, fault.key) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("gpt2-52b-pretrain", "51,966,533,632 parameters"),
        ("gpt2-13b-pretrain", "12,853,386,240 parameters"),
        ("gpt2-124m-pretrain", "124,439,808 parameters"),
    ],
)
def test_parameters_are_counted_exactly(spec: str, expected: str) -> None:
    assert expected in str(Recipe.load(f"specs/{spec}.toml").plan())


def test_the_plan_of_a_large_model_is_what_users_read() -> None:
    golden = Path("tests/golden/plan_52b.txt")
    text = str(Recipe.load("specs/gpt2-52b-pretrain.toml").plan()) + "\n"
    assert text == golden.read_text(encoding="utf-8")


def test_the_plan_is_json_and_has_the_recipe_in_it() -> None:
    recipe = Recipe.load("specs/gpt2-13b-pretrain.toml")
    plan: dict[str, Any] = json.loads(recipe.plan().to_json_text())
    assert plan["parameters"] == 12_853_386_240
    assert plan["ranks"] == {"dp": 4, "mp": 8, "pp": 1, "micro_batches": 1}
    assert Recipe.from_toml(plan["toml"]) == recipe
    assert plan["digest"] == recipe.digest


@pytest.mark.parametrize(
    ("parallel", "key"),
    [
        (Parallel(mp=7), "parallel.mp = 7"),
        (Parallel(mp=8), "parallel.mp = 8"),
        (Parallel(mp=256), "parallel.mp = 256"),
        (Parallel(pp=13), "parallel.pp = 13"),
        (Parallel(dp=3), "train.batch_size = 8"),
        (Parallel(dp=4, micro_batches=4), "train.batch_size = 8"),
    ],
)
def test_what_does_not_divide_is_found(parallel: Parallel, key: str) -> None:
    assert codes(Model(size="124m") | parallel | Task.pretrain(data="a")) == [("G2-203", key)]


def test_the_divisors_that_would_do_are_named() -> None:
    recipe = Model(size="13b") | Parallel(mp=7) | Task.pretrain(data="a")
    with pytest.raises(SpecError, match=r"7 does not divide 128, nor the 40 heads.*1, 2, 4, 8 do"):
        recipe.plan()


def test_heads_that_do_not_divide_the_width() -> None:
    recipe = Model(size="nano", heads=3) | Train(seq_length=64) | Task.pretrain(data="a")
    assert codes(recipe) == [("G2-203", "model.heads = 3")]


def test_a_sequence_longer_than_the_positions() -> None:
    recipe = Model(size="nano") | Task.pretrain(data="a")
    assert codes(recipe) == [("G2-204", "train.seq_length = 1024")]


def test_faults_of_the_recipe_as_a_whole_do_not_hide_each_other() -> None:
    recipe = (
        Model(size="nano", heads=3)
        | Parallel(mp=7, pp=9, dp=3)
        | Schedule(end=1.0, warmup=50)
        | Train(steps=20)
        | LoRA(targets="(")
        | Task.pretrain(data="a")
    )
    assert sorted(codes(recipe)) == [
        ("G2-107", "task.kind = pretrain"),
        ("G2-202", "lora.targets = ("),
        ("G2-202", "schedule.end = 1.0"),
        ("G2-202", "schedule.warmup = 50"),
        ("G2-203", "model.heads = 3"),
        ("G2-203", "parallel.mp = 7"),
        ("G2-203", "parallel.pp = 9"),
        ("G2-203", "train.batch_size = 8"),
        ("G2-204", "train.seq_length = 1024"),
    ]


def test_a_recipe_without_a_task_and_parts_that_do_not_go_together() -> None:
    assert codes(Recipe(Model(size="nano"))) == [("G2-107", "task")]
    recipe = Model(weights="random") | Task.classify(texts=["a"])
    assert codes(recipe) == [("G2-107", "classifier")]
    recipe = Model(weights="random") | Classifier() | Task.generate(prompts=["a"])
    assert codes(recipe) == [("G2-107", "classifier")]


def test_sizes_without_published_weights_must_name_some() -> None:
    recipe = Model(size="52b") | Task.finetune(data="a")
    assert codes(recipe) == [("G2-103", "model.weights = auto")]


def test_a_metric_that_does_not_exist() -> None:
    recipe = Model(size="124m") | Task.evaluate(data="a", metrics=["bleu"])
    assert codes(recipe)[0][0] == "G2-202"


def test_absent_inputs_are_shown_and_run_refuses_them() -> None:
    recipe = Model(size="124m") | Task.finetune(data="no/such.txt", eval_data="nor/this.txt")
    plan = recipe.plan()
    assert [(found.key, found.state) for found in plan.inputs] == [
        ("model.weights", "absent"),
        ("task.data", "absent"),
        ("task.eval_data", "absent"),
    ]
    assert "3 inputs are absent; a run is refused." in str(plan)
    with pytest.raises(SpecError) as caught:
        plan.run()
    assert caught.value.exit_code == 2
    assert {fault.code for fault in caught.value.faults} == {"G2-301"}
    assert all(fault.origin.startswith("tests/plan/") for fault in caught.value.faults)


def test_an_empty_text_and_one_that_is_too_short_are_refused(tmp_path: Path) -> None:
    empty, short = tmp_path / "empty.txt", tmp_path / "short.txt"
    empty.touch()
    short.write_text("few words")
    for path, code in ((empty, "G2-302"), (short, "G2-305")):
        plan = SAMPLE.replace(Task.pretrain(data=str(path))).plan(prepare=True)
        assert [fault.code for fault in plan.refusals()] == [code]


def test_a_checkpoint_to_resume_from_has_a_size_and_sums_of_its_own(tmp_path: Path) -> None:
    sizes = {"model.safetensors": 3_000_000, "config.json": 500}
    files = {name: {"size": size, "xxh3": "0" * 32} for name, size in sizes.items()}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": files}))
    (tmp_path / "state.json").write_text("{}")
    train = Train(seq_length=32, steps=2, resume=str(tmp_path))
    plan = SAMPLE.replace(train).plan()
    (line,) = (line for line in str(plan).splitlines() if line.startswith("  resume"))
    assert line.endswith(f"{tmp_path}   checkpoint   3.0 MB")


@pytest.mark.parametrize(
    ("form", "content", "said"),
    [
        ("csv", "body,label\na,0\n", "there is no column 'text', but 'body', 'label'"),
        ("jsonl", '{"text": "a", "label": 0}\n{"text": 3}\n', ":2: 'text' is 3, a text is expect"),
        ("jsonl", '{"text": "a", "label": 0}\n' * 2 + '{"text": "b", "label": 7}', ":3: the class"),
        ("jsonl", '{"text": "a", "label": 5}\n' * 3, ":1: the class is '5', one of 0, 1, LABEL_0"),
    ],
)
def test_rows_that_can_not_be_used_are_told_before_anything_starts(
    tmp_path: Path, form: str, content: str, said: str
) -> None:
    path = tmp_path / "rows"
    path.write_text(content)
    recipe = Model(size="nano") | Classifier(labels=2) | Data(format=form) | Train(seq_length=32)
    faults = (recipe | Task.pretrain(data=str(path))).faults()
    assert {fault.key for fault in faults} == {f"task.data = {path}"}
    assert len(faults) == 1  # of many alike
    assert said in faults[0].message


def test_a_text_that_is_not_utf_8_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9 " * 2000)
    with pytest.raises(SpecError) as caught:
        SAMPLE.replace(Task.pretrain(data=str(path))).plan(prepare=True)
    assert "\n" not in str(caught.value)
    assert "latin.txt" in str(caught.value)
    assert "[G2-303]" in str(caught.value)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root, who may read every file, becomes somebody who may not."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.usefixtures("nobody")
def test_a_text_that_is_unreadable_is_one_clear_line() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "secret.txt")
        path.write_text("text")
        path.chmod(0)
        plan = SAMPLE.replace(Task.pretrain(data=str(path))).plan(prepare=True)
        with pytest.raises(SpecError, match="can't be read: Permission denied") as caught:
            plan.run()
    assert "\n" not in str(caught.value)
    assert caught.value.faults[0].code == "G2-304"


def test_rows_and_steps_are_exact_once_the_text_was_tokenised(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 2000)
    recipe = SAMPLE.replace(Task.pretrain(data=str(text))) | Data(tokenizer="gpt2")
    first = recipe.plan().batches
    prepared = recipe.plan(prepare=True).batches
    after = recipe.plan().batches
    assert first
    assert prepared
    assert first.rows is None
    assert prepared.rows
    assert prepared.steps == prepared.rows // 8
    assert after == prepared


def test_a_trained_vocabulary_gives_the_nano_size_its_own() -> None:
    plan = (SAMPLE | Data(tokenizer="train", vocab=512)).plan()
    assert plan.geometry.vocab == 512
    plan = (SAMPLE | Data(tokenizer="gpt2")).plan()
    assert plan.geometry.vocab == 50257


def test_a_vocabulary_larger_than_the_word_table_is_refused() -> None:
    recipe = SAMPLE.replace(Model(size="nano", vocab=100)) | Data(tokenizer="train", vocab=512)
    assert [code for code, _ in codes(recipe)] == ["G2-205"]


@pytest.mark.parametrize(
    ("size", "lora", "expected"),
    [
        ("124m", LoRA(r=64, alpha=128, targets="[qv]"), 2_359_296),
        ("1.5b", LoRA(r=64, alpha=128, targets="[qv]"), 19_660_800),
        ("124m", LoRA(r=8), 294_912),
        ("13b", LoRA(r=8), 6_553_600),
    ],
)
def test_trained_parameters_of_adapters(size: str, lora: LoRA, expected: int) -> None:
    parts = Parts.of([Model(size=size), lora, Task.finetune(data="a")])
    shapes = trained_shapes(parts, Model(size=size).geometry())
    assert sum(map(math.prod, shapes)) == expected


GEOMETRY = GPT2Config(layers=4, heads=4, hidden=64, positions=128, vocab=512)


def _memory(parallel: Parallel, **train: int) -> Any:
    made = Train(**{"batch_size": 8, "seq_length": 64, **train})  # type: ignore[arg-type]
    parts = Parts.of([parallel, made, Task.pretrain(data="a")])
    return plan_of(parts).memory(GEOMETRY, stages_of(parts, GEOMETRY))


def test_memory_is_split_over_ranks() -> None:
    whole = _memory(Parallel())
    assert whole.gradients == whole.weights
    assert whole.optimizer == 2 * whole.weights
    assert _memory(Parallel(mp=2)).weights < whole.weights
    assert _memory(Parallel(pp=2)).weights < whole.weights
    assert _memory(Parallel(dp=2)).weights == whole.weights
    biases = 2 * 4 * 4 * 3 * 64  # moments of c_attn's, which stay whole
    shared = _memory(Parallel(dp=2, optimizer_shard=True)).optimizer
    assert shared == (whole.optimizer + biases) // 2
    assert _memory(Parallel(recompute="full")).activations < whole.activations
    assert _memory(Parallel(micro_batches=2)).activations < whole.activations


@pytest.mark.parametrize(
    "task", [Task.convert(target="out"), Task.export(target="out", format="onnx")]
)
def test_weights_of_the_model_are_shown_the_way_to_the_source(task: Conversion) -> None:
    recipe = Model(weights="base") | task
    (fault,) = (fault for fault in recipe.faults() if fault.key == "task.source")
    assert fault.code == "G2-103"
    origin = recipe.parts["model"].why("weights")
    words = f"write task.source = base, in place of model.weights ({origin})"
    assert fault.message == f"missing; {words}"
    (alone,) = (fault for fault in Recipe(task).faults() if fault.key == "task.source")
    assert alone.message == (
        f"missing; only a later stage of a chain has weights to {task.kind} without it"
    )


def test_one_of_a_kind_is_singular(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a cat sat on a mat. " * 200)
    model = Model(size="nano", layers=1, heads=1)
    train = Train(batch_size=2, seq_length=16, steps=1)
    shown = str((model | train | Task.pretrain(data=str(text))).plan(prepare=True))
    assert "nano: 1 layer, 1 head, 128 wide, " in shown
    assert ": 1 step\n" in shown
    assert "1 steps" not in shown


def test_runs_of_one_recipe_share_a_directory_wherever_they_run() -> None:
    one = SAMPLE | Data(tokenizer="gpt2")
    assert one.plan().directory == (one | Parallel()).plan().directory
    assert one.plan().directory != (one | Optim(lr=1e-3)).plan().directory
    assert (one | Runtime(output="out")).plan().directory.startswith("out/")


def test_the_same_texts_give_the_same_rows_in_any_form(tmp_path: Path) -> None:
    texts = [f"The cat {i} sat on the mat, and it was glad." for i in range(40)]
    (tmp_path / "text").mkdir()
    for i, text in enumerate(texts):
        (tmp_path / "text" / f"{i:02d}").write_text(text)
    lines = [json.dumps({"body": text}) for text in texts]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    (tmp_path / "rows.csv").write_text("\n".join(["body", *(f'"{text}"' for text in texts)]))
    rows = {
        Recipe(Model(size="nano"), Data(format=form, text_column="body"), Train(seq_length=16))
        .replace(Task.pretrain(data=str(tmp_path / name)))
        .set("train.batch_size", 2)
        .plan(prepare=True)
        .batches
        for name, form in (("text", "text"), ("rows.jsonl", "jsonl"), ("rows.csv", "csv"))
    }
    assert len(rows) == 1


def test_a_network_that_only_absent_weights_know_is_not_guessed() -> None:
    text = str((Model(weights="mine/none") | Task.evaluate(data="sample:valid")).plan())
    assert "  model    as its weights, which are not there" in text
    assert "memory" not in text
    assert "if it is a model on the Hub" in text


def test_the_memory_of_a_tiny_model_is_told_in_mb() -> None:
    tiny = Model(size="nano", layers=1, heads=2, hidden=32) | Train(seq_length=8, batch_size=1)
    text = str(
        (tiny | Data(tokenizer="train", vocab=300) | Task.pretrain(data="sample:valid")).plan()
    )
    (line,) = [line for line in text.splitlines() if line.startswith("  memory")]
    assert re.fullmatch(r"  memory +per rank [\d.]+ MB: weights 0.1\d, gradients 0.1\d, .*", line)
