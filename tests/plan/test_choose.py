from __future__ import annotations

import re

import attrs
import pytest

from gpt2dsl import Model, Parallel, Recipe, SpecError, Task, Train, library
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan import choose
from gpt2dsl.plan.choose import Choice

SMALL = Model(size="nano", layers=6, heads=8, hidden=64, positions=64) | Task.pretrain(data="a")
TRAIN = Train(batch_size=16, seq_length=64)


def ranked(recipe: Recipe) -> list[Choice]:
    parts = Parts.of(recipe.parts.values())
    return choose.ranked(parts, parts.model.geometry(vocab=50257, labels=0))


@pytest.mark.parametrize(
    ("spec", "devices"), [("gpt2-13b-pretrain", 32), ("gpt2-52b-pretrain", 128)]
)
def test_a_large_network_gets_a_layout_that_fits_and_costs_no_more_than_the_cards(
    spec: str, devices: int
) -> None:
    card = Recipe.load(spec)
    hand_made = Parts.of(card.parts.values()).parallel.evolve(memory="")
    auto = card.replace(Parallel.auto(devices=devices, memory="30GB"))
    plan = auto.plan()
    assert plan.world == devices
    assert plan.memory.total <= 30e9
    free = ranked(card.replace(Parallel.auto(devices=devices)))
    (same,) = (one for one in free if one.parallel == hand_made)
    best = ranked(auto)[0]
    assert best.seconds <= same.seconds
    assert free[0].seconds <= best.seconds
    assert 1 < len(plan.choices) <= 5
    assert plan.choices[0] == str(best)
    assert str(best)[:30] in str(plan)


def test_every_choice_is_a_layout_that_the_plan_takes() -> None:
    for choice in ranked(SMALL | TRAIN | Parallel.auto(devices=8)):
        plan = (SMALL | TRAIN | choice.parallel).plan()
        assert plan.world == 8
        assert plan.memory.total == choice.memory


def test_what_is_chosen_is_the_layout_of_the_run_and_not_of_its_name() -> None:
    auto = SMALL | TRAIN | Parallel.auto(devices=4)
    plan = auto.plan()
    assert plan.ranks["dp"] * plan.ranks["mp"] * plan.ranks["pp"] == 4
    assert plan.digest == (SMALL | TRAIN).plan().digest
    assert plan.layout
    assert auto == Recipe.from_toml(auto.to_toml())


def test_less_memory_takes_what_saves_it() -> None:
    def best(memory: str) -> Choice:
        return ranked(SMALL | TRAIN | Parallel.auto(devices=2, memory=memory))[0]

    free = best("")
    tight = best(f"{free.memory // 1000 - 1}KB")
    assert tight.memory < free.memory
    assert tight.seconds >= free.seconds


def test_what_no_layout_can_do_is_told() -> None:
    for parallel in (Parallel.auto(devices=2, memory="1KB"), Parallel.auto(devices=7)):
        with pytest.raises(SpecError, match=r"no layout of \d devices fits .*G2-206"):
            (SMALL | TRAIN | parallel).plan()
    with pytest.raises(SpecError, match="devices chooses it; leave one of both out"):
        (SMALL | TRAIN | Parallel(devices=2, dp=2)).plan()


def test_a_layout_that_needs_too_much_is_refused_with_the_nearest_that_fits() -> None:
    needed = (SMALL | TRAIN | Parallel(dp=2)).plan().memory.total
    small = SMALL | TRAIN | Parallel(dp=2, memory=f"{needed // 1000 - 1}KB")
    message = (
        r"parallel\.memory = \d+KB: a rank .*the nearest layout that fits is dp 2 x mp 1 x pp 1, .*"
    )
    with pytest.raises(SpecError, match=rf"{message}G2-206"):
        small.plan()
    with pytest.raises(SpecError, match=r"and no layout of 2 devices fits .*G2-206"):
        (SMALL | TRAIN | Parallel(dp=2, memory="1KB")).plan()
    assert not (SMALL | TRAIN | Parallel(dp=2, memory="9GB")).plan().notes


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_a_pipeline_goes_forward_once_more_whatever_else_is_recomputed(recompute: str) -> None:
    model = Model(size="nano", layers=8, heads=8, hidden=512) | Task.pretrain(data="a") | TRAIN
    whole, split = (
        next(
            choice.products
            for choice in ranked(model | Parallel.auto(devices=2))
            if choice.parallel.recompute == recompute and choice.parallel.pp == pp
        )
        for pp in (1, 2)
    )
    passes = {"none": 3, "full": 4}[recompute]
    assert split / whole == pytest.approx((passes + 1) / passes)


def test_recipes_of_the_library_fit_the_devices_that_they_name() -> None:
    named = {}
    for entry in library.entries():
        said = re.search(r"devices of (\d+) GB", library.module(entry).__doc__ or "")
        if entry.package == "gpt2dsl" and said:
            named[entry.name] = int(said[1]) * 1e9
    assert named.keys() == {"gpt2-13b-pretrain", "gpt2-13b-pretrain-910b"}
    for name, size in named.items():
        assert Recipe.load(name).plan().memory.total <= size


def test_tasks_that_do_not_train_get_no_pipeline() -> None:
    evaluate = Model(size="124m") | TRAIN | Task.evaluate(data="a") | Parallel.auto(devices=4)
    found = ranked(evaluate)
    assert {one.parallel.pp for one in found} == {1}
    assert all(attrs.astuple(one)[2] > 0 for one in found)
