from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from gpt2dsl import (
    Data,
    LoRA,
    Model,
    Optim,
    Precision,
    Recipe,
    Runtime,
    Schedule,
    SpecError,
    Task,
    Train,
)
from gpt2dsl.layout.lora import LoRASettings, lora_specs
from gpt2dsl.parts import Part
from gpt2dsl.weights import store
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.formats import huggingface, lora, peft_writing
from gpt2dsl.weights.initial import initial_adapters
from tests.judges import TINY, random_weights

BASE = Model(size="124m") | Task.finetune(data="a", eval_data="b")


def keys(*parts: Part) -> list[str]:
    with pytest.raises(SpecError) as caught:
        Recipe(*BASE.parts.values()).replace(*parts).plan()
    return [fault.key for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        ((LoRA(targets="c_atn"),), "lora.targets = c_atn"),
        ((LoRA(targets="("),), "lora.targets = ("),
        ((LoRA(rank_pattern={"[": 3}),), "lora.rank_pattern = {'[': 3}"),
        ((LoRA(rank_pattern={"nope": 8}),), "lora.rank_pattern = {'nope': 8}"),
        ((LoRA(targets="[qv]", rank_pattern={"q": 4}),), "lora.rank_pattern = {'q': 4}"),
        ((LoRA(), Model(size="124m", weights="random")), "model.weights = random"),
        ((LoRA(), Task.pretrain(data="a")), "task.kind = pretrain"),
        ((LoRA(), Task.evaluate(data="a")), "lora"),
        ((Precision(compute="bfloat16"),), "precision.compute = bfloat16"),
        ((Precision(params="bfloat16"),), "precision.params = bfloat16"),
        ((Train(patience=3),), "train.patience = 3"),
        ((Train(best=True, evaluate_every=3), Task.finetune(data="a")), "train.best = True"),
    ],
)
def test_what_training_can_not_do_is_told_before_it_starts(
    parts: tuple[Part, ...], key: str
) -> None:
    assert keys(*parts) == [key]


def test_ascend_has_bfloat16() -> None:
    plan = BASE.replace(Precision(compute="bfloat16"), Runtime(device="ascend")).plan()
    assert plan.precision == "products in bfloat16"


def test_the_plan_shows_what_decays_and_how_numbers_are_held() -> None:
    plan = BASE.replace(
        Optim(name="sgd", lr=0.1), Precision(params="float16", compute="float16")
    ).plan()
    assert plan.optimizer == (
        "sgd, lr 0.1, polynomial, momentum 0.9; decay 0.1 of 50 matrices and tables, none of 98 "
        "biases and norms"
    )
    assert "float32 master weights, products in float16, dynamic loss scale" in plan.precision
    assert plan.optimizer in str(plan).replace("\n" + " " * 11, " ")


def test_the_plan_shows_the_adapters() -> None:
    plan = BASE.replace(LoRA(r=4, rank_pattern={"h.0.attn.c_attn": 8}, dropout=0.1)).plan()
    words = "rank 4, 8, scale 2, 4, on 12 modules that match 'c_attn', dropout 0.1"
    assert plan.adapters == words
    assert f"  lora     {words}\n" in str(plan)
    assert BASE.plan().adapters == ""


def test_a_resume_from_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    plan = BASE.replace(Train(resume="no")).plan()
    assert "train.resume = no" in [fault.key for fault in plan.refusals()]
    assert "expected auto, never, or the folder of a checkpoint" in str(plan)
    (tmp_path / store.MANIFEST).write_text("{}")
    plan = BASE.replace(Train(resume=str(tmp_path))).plan()
    (message,) = (fault.message for fault in plan.refusals() if "resume" in fault.key)
    assert message.endswith("it is damaged: this is no manifest of ours")
    (tmp_path / store.MANIFEST).write_text('{"gpt2dsl": "0.1.0", "meta": {}, "files": {}}')
    (tmp_path / "state.json").write_text("{}")
    plan = BASE.replace(Train(resume=str(tmp_path))).plan()
    assert not [fault for fault in plan.refusals() if "resume" in fault.key]


@pytest.mark.parametrize(
    ("name", "trained"),
    [("gpt2-124m-finetune-lora", "2,359,296"), ("gpt2-1.5b-finetune-lora", "19,660,800")],
)
def test_the_cards_adapters_train_as_many_parameters_as_the_card_says(
    name: str, trained: str
) -> None:
    plan = Recipe.load(f"specs/{name}.toml").plan()
    assert f"{plan.trained:,}" == trained
    assert f"trains {trained}" in str(plan)
    assert Recipe.load(name) == Recipe.load(f"specs/{name}.toml")
    assert "one of rank 128 on c_attn" in plan.notes[-1]


def test_an_adapter_is_no_base_of_another(tmp_path: Path) -> None:
    base, added = tmp_path / "base", tmp_path / "adapter"
    geometry = attrs.evolve(TINY, vocab=50257)
    with store.writing(base) as folder:
        huggingface.write(folder, geometry, random_weights(geometry))
    slots = lora_specs(geometry, LoRASettings(targets="c_attn", r=2, alpha=2))
    with store.writing(added) as folder:
        peft_writing.write(
            folder, lora.to_files(slots, dict(Arrays(initial_adapters(slots, 0))), {}, str(base))
        )
    task = Task.finetune(data="sample:train")
    length = Train(seq_length=64)
    assert (Model(weights=str(base)) | LoRA() | task | length).plan().trained == 2 * 8 * 96
    with pytest.raises(SpecError, match="these weights are an adapter themselves"):
        (Model(weights=str(added)) | LoRA() | task | length).plan()


@pytest.fixture
def small(elsewhere: Path) -> Recipe:
    """Training on a text of 255 bytes, 31 rows of 8 tokens."""
    (elsewhere / "text.txt").write_text("the cat sat. " * 19 + "the end.")
    return (
        Model(size="nano")
        | Data(tokenizer="train", vocab=257)
        | Train(batch_size=4, seq_length=8)
        | Task.pretrain(data="text.txt")
    )


@pytest.mark.parametrize("warmup", [7, 500, 0.95])
def test_a_warm_up_that_leaves_no_step_is_refused_whatever_says_the_steps(
    small: Recipe, warmup: float
) -> None:
    small = small | Schedule(warmup=warmup)
    for key, value in (("train.steps", 7), ("train.epochs", 1)):
        with pytest.raises(SpecError, match=r"of warm-up leave none of the 7 steps") as caught:
            small.set(key, value).plan(prepare=True)
        assert [one.code for one in caught.value.faults] == ["G2-202"]
    small.set("train.epochs", 100).plan(prepare=True)
    with pytest.raises(SpecError, match=r"stage.1.schedule.warmup"):
        (small >> small.set("data.tokenizer", "auto")).plan(prepare=True)


def test_a_warm_up_that_rounds_to_no_step_is_told(small: Recipe) -> None:
    note = "schedule.warmup = 0.01 of 7 steps is less than half a step: no warm-up"
    small = small | Schedule(warmup=0.01)
    assert note in small.plan(prepare=True).notes
    assert note in small.set("train.steps", 7).plan().notes
    assert not small.set("train.steps", 100).plan().notes


def test_evaluations_that_are_never_due_are_told(small: Recipe) -> None:
    small = small.set("train.steps", 10).set("task.eval_data", "sample:valid")

    def notes(every: int, patience: int) -> list[str]:
        changed = small.set("train.evaluate_every", every).set("train.patience", patience)
        return [note for note in changed.plan().notes if note.startswith("train.")]

    never = "is never due in 10 steps: held-out text is evaluated before and after them only"
    patient = "train.patience = 4 never stops this training: its 10 steps have"
    assert notes(3, 3) == notes(9, 1) == []
    assert notes(10, 0) == [f"train.evaluate_every = 10 {never}"]
    assert notes(3, 4) == [f"{patient} 3 evaluations before the last, one each 3 steps"]
    assert notes(11, 4) == [
        f"train.evaluate_every = 11 {never}",
        f"{patient} 0 evaluations before the last, one each 11 steps",
    ]


def test_held_out_text_that_is_trained_on_is_told(small: Recipe, tmp_path: Path) -> None:
    small = small.set("train.steps", 10)
    for name, text in {"a.txt": "the cat\n", "b.txt": "a dog\n", "c.txt": "the cat\n"}.items():
        (tmp_path / name).write_text(text * 500)

    def noted(data: str, held_out: str) -> list[str]:
        changed = small.set("task.data", data).set("task.eval_data", held_out)
        return [note for note in changed.plan().notes if "is trained on" in note]

    a, b, c = (str(tmp_path / name) for name in ("a.txt", "b.txt", "c.txt"))
    end = "; its loss says nothing of other text"
    assert noted("sample:train", "sample:valid") == noted(a, b) == noted(str(tmp_path), a)[1:] == []
    assert noted(a, a) == [f"task.eval_data is trained on: it is task.data{end}"]
    assert noted(a, c) == [f"task.eval_data is trained on: {c} has the contents of task.data{end}"]
    assert noted(str(tmp_path), b) == [f"task.eval_data is trained on: {b} is in task.data{end}"]


def test_rows_that_fill_no_batch_are_told(small: Recipe) -> None:
    shown = " ".join(str(small.plan(prepare=True)).split())
    assert "7 steps = 1 epoch; 3 of the last rows fill no batch and are left out" in shown
    assert "fill no batch" not in str(small.set("train.epochs", 4).plan(prepare=True))
    assert "fill no batch" not in str(small.set("train.steps", 5).plan(prepare=True))
