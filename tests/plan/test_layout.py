from __future__ import annotations

import json
import math
from typing import Any

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gpt2dsl import (
    Classifier,
    LoRA,
    Model,
    Optim,
    Parallel,
    Precision,
    Recipe,
    SpecError,
    Task,
    Train,
)
from gpt2dsl.distributed.process_groups import ProcessGroup
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.local_params import local_params, on_stages
from gpt2dsl.layout.params import WTE, parameter_count
from gpt2dsl.layout.pipeline_schedule import BACKWARD, FORWARD, RECEIVE, SEND, schedule
from gpt2dsl.layout.pipeline_stages import layers_of
from gpt2dsl.parts import Part
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.memory import Memory
from gpt2dsl.plan.parallel import Layout, bubble, layout
from gpt2dsl.plan.stages import stages_of
from gpt2dsl.plan.tasks import plan_of
from gpt2dsl.plan.traffic import Traffic, traffic
from gpt2dsl.training.zero import is_split

GEOMETRY = GPT2Config(layers=6, heads=8, hidden=64, positions=32, vocab=500)
TASK = Task.pretrain(data="a")
TRAIN = Train(batch_size=64, seq_length=32)
PORTION = Train(batch_size=16, seq_length=32)
"""512 tokens, the logits of all of which are held at once."""
FLOATS = 4

parallels = st.builds(
    Parallel,
    dp=st.sampled_from([1, 2, 4]),
    mp=st.sampled_from([1, 2, 8]),
    pp=st.sampled_from([1, 2, 3, 6]),
    micro_batches=st.sampled_from([1, 2, 4]),
    optimizer_shard=st.booleans(),
    sequence_parallel=st.booleans(),
    recompute=st.sampled_from(["none", "full", "selective"]),
)
loras = st.sampled_from([None, LoRA(r=4), LoRA(r=2, targets="[qv]|mlp.c_proj", dropout=0.1)])


def changed(parallel: Parallel, **changes: Any) -> Parallel:
    return attrs.evolve(parallel, **changes)  # type: ignore[misc]


def parts_of(parallel: Parallel, *others: Part | None) -> Parts:
    said = {part.table: part for part in (TRAIN, TASK, *filter(None, others))}
    return Parts.of([parallel, *said.values()])


def traffic_of(
    parallel: Parallel, *others: Part | None, geometry: GPT2Config = GEOMETRY
) -> Traffic:
    parts = parts_of(parallel, *others)
    return traffic(parts, geometry, stages_of(parts, geometry))


def memory_of(parallel: Parallel, *others: Part | None, geometry: GPT2Config = GEOMETRY) -> Memory:
    parts = parts_of(parallel, *others)
    return plan_of(parts).memory(geometry, stages_of(parts, geometry))


def memory_on(stage: int, parallel: Parallel, *others: Part | None) -> Memory:
    """Of the ranks of one stage; which stage needs the most depends on what is compared."""
    parts = parts_of(parallel, *others)
    return plan_of(parts).memory(GEOMETRY, [stages_of(parts, GEOMETRY)[stage]])


def layout_of(parallel: Parallel, *others: Part | None) -> Layout:
    parts = parts_of(parallel, *others)
    return layout(parts, GEOMETRY, stages_of(parts, GEOMETRY))


@given(parallels, loras)
def test_the_pieces_of_all_ranks_are_the_whole(parallel: Parallel, lora: LoRA | None) -> None:
    mp, pp = parallel.mp, parallel.pp
    found: dict[str, int] = {}
    whole: dict[str, int] = {}
    for stage in stages_of(parts_of(parallel, lora), GEOMETRY):
        for one in stage.held:
            pieces = one.size * (mp if one.split.axis is not None else 1)
            found[one.name] = found.get(one.name, 0) + pieces
            whole[one.name] = math.prod(one.shape)
    if pp > 1:
        whole[WTE] *= 2  # on the first stage and, as the head, on the last
    assert found == whole


def test_all_tensors_are_held_with_the_padded_table() -> None:
    padding = (GEOMETRY.padded_vocab - GEOMETRY.vocab) * GEOMETRY.hidden
    assert sum(one.size for one in local_params(GEOMETRY)) == parameter_count(GEOMETRY) + padding


def test_a_classifier_has_one_table_and_its_head_on_the_last_stage() -> None:
    labelled = attrs.evolve(GEOMETRY, labels=3)
    first, last = on_stages(labelled, local_params(labelled), 2)
    assert WTE in {one.name for one in first}
    assert "score.weight" in {one.name for one in last}
    assert WTE not in {one.name for one in last}


@given(parallels, loras)
def test_optimizer_state_is_shared_as_the_engine_does_it(
    parallel: Parallel, lora: LoRA | None
) -> None:
    dp = parallel.dp
    for stage in stages_of(parts_of(parallel, lora), GEOMETRY):
        for one in stage.held:
            assert one.is_sharded(dp) == is_split(one.name, one.part, ProcessGroup(dp))
            copies = dp if one.is_sharded(dp) else 1
            assert math.prod(one.state(dp)) * copies == one.size


@given(parallels, loras)
def test_roles_stand_for_every_tensor(parallel: Parallel, lora: LoRA | None) -> None:
    found = layout_of(parallel, lora)
    parts = parts_of(parallel, lora)
    names = {one.name for stage in stages_of(parts, GEOMETRY) for one in stage.held}
    assert sum(role.count for role in found.roles) == len(names)
    for role in found.roles:
        assert (role.axis is not None) == (role.part != role.shape) == bool(role.by)
        if role.axis is not None:
            assert role.part[role.axis] * parallel.mp == role.shape[role.axis]
        assert (role.state is None) == (lora is not None and "lora" not in role.name)


@given(parallels)
def test_stages_part_the_layers_and_the_ranks(parallel: Parallel) -> None:
    stages = layout_of(parallel).stages
    for kind, count in (("layers", GEOMETRY.layers), ("ranks", parallel.ranks)):
        ends = [getattr(stage, kind) for stage in stages]
        assert [i for first, last in ends for i in range(first, last + 1)] == list(range(count))


@given(parallels, loras)
def test_nothing_crosses_where_there_is_nobody_else(parallel: Parallel, lora: LoRA | None) -> None:
    found = traffic_of(parallel, lora)
    for kind in ("dp", "mp", "pp"):
        assert (getattr(found, kind) > 0) == (getattr(parallel, kind) > 1)


@given(parallels, loras)
def test_twice_the_copies_halve_what_the_ranks_of_a_layer_exchange(
    parallel: Parallel, lora: LoRA | None
) -> None:
    assume(not parallel.sequence_parallel and not lora)  # gradients of weights don't halve
    twice = changed(parallel, dp=2 * parallel.dp)
    once, halved = traffic_of(parallel), traffic_of(twice)
    assert halved.mp * 2 == pytest.approx(once.mp)
    assert halved.dp >= once.dp


@given(parallels)
def test_a_layout_only_changes_what_it_must(parallel: Parallel) -> None:
    split = traffic_of(changed(parallel, micro_batches=4, sequence_parallel=False))
    whole = traffic_of(changed(parallel, micro_batches=1, sequence_parallel=False))
    assert split == whole  # the same tokens, in parts


def test_traffic_of_small_layouts_by_hand() -> None:
    tokens, h = 64 * 32, 64
    hidden = tokens * h * FLOATS
    plain = traffic_of(Parallel(mp=2))
    assert plain.mp == (6 * 4 + 2) * hidden + (2 + 2) * tokens * FLOATS  # a ring of 2 sends all
    again = traffic_of(Parallel(mp=2, recompute="full"))
    assert again.mp - plain.mp == 6 * hidden
    whole = sum(one.size for one in local_params(GEOMETRY)) * FLOATS
    assert traffic_of(Parallel(dp=4)).dp == whole * 3 // 2
    # The three rows of c_attn's bias are no replica's own: their gradients are summed alone.
    biases = sum(one.size for one in local_params(GEOMETRY) if "c_attn.bias" in one.name) * FLOATS
    assert traffic_of(Parallel(dp=4, optimizer_shard=True)).dp == whole * 3 - biases * 3 // 2
    table = GEOMETRY.padded_vocab * h * FLOATS
    assert traffic_of(Parallel(pp=2, micro_batches=4)).pp == 2 * hidden + table
    assert traffic_of(Parallel(pp=2), LoRA(r=4)).pp == 2 * hidden
    assert traffic_of(Parallel(pp=3)).pp == 4 * hidden


@pytest.mark.parametrize(
    ("layers", "parallel", "stage", "lora", "numbers"),
    [
        (2, Parallel(recompute="full"), 0, LoRA(r=2), 2944),
        (2, Parallel(sequence_parallel=True), 0, None, 5536),
        (2, Parallel(sequence_parallel=True), 0, LoRA(r=2), 4736),
        (2, Parallel(sequence_parallel=True, recompute="full"), 0, None, 7072),
        (2, Parallel(sequence_parallel=True, recompute="full"), 0, LoRA(r=2), 6272),
        (4, Parallel(), 0, None, 4672),
        (4, Parallel(recompute="full"), 0, LoRA(r=2), 5568),
        (4, Parallel(pp=2), 0, None, 3328),
        (4, Parallel(pp=2, recompute="full"), 1, None, 2880),
        (4, Parallel(pp=2, sequence_parallel=True, recompute="full"), 0, None, 8000),
        (4, Parallel(pp=3, sequence_parallel=True), 1, LoRA(r=2), 3360),
        (4, Parallel(pp=2, sequence_parallel=True), 1, None, 5152),
    ],
)
def test_what_crosses_between_shards_was_counted_in_the_compiled_graphs(
    layers: int, parallel: Parallel, stage: int, lora: LoRA | None, numbers: int
) -> None:
    geometry = GPT2Config(layers=layers, heads=4, hidden=16, positions=8, vocab=100)
    parts = parts_of(changed(parallel, mp=2), lora, Train(batch_size=2, seq_length=8))
    found = traffic(parts, geometry, [stages_of(parts, geometry)[stage]])
    assert found.mp == numbers * FLOATS


def test_adapters_cross_instead_of_the_network() -> None:
    trained = 6 * 4 * (64 + 3 * 64)
    assert traffic_of(Parallel(dp=2), LoRA(r=4)).dp == trained * FLOATS
    plain, adapted = traffic_of(Parallel(mp=2)), traffic_of(Parallel(mp=2), LoRA(r=4))
    factors = 6 * 4 * 64  # A of c_attn, whole on every rank; and the embedding has no gradient
    assert adapted.mp - plain.mp == (factors - 64 * 32 * 64) * FLOATS


@given(st.integers(2, 6), st.integers(1, 12))
def test_the_schedule_has_the_transfers_and_the_inputs_that_are_counted(pp: int, m: int) -> None:
    geometry = attrs.evolve(GEOMETRY, layers=pp)
    parts = parts_of(Parallel(pp=pp, micro_batches=m), Train(batch_size=m, seq_length=32))
    for stage, acts in zip(stages_of(parts, geometry), schedule(pp, m), strict=True):
        crossings = sum(act.kind in {SEND, RECEIVE} for act in acts)
        assert crossings == 2 * stage.neighbours * m
        under_way = most = 0
        for act in acts:
            begins = act.kind == (BACKWARD if stage.is_last else FORWARD)
            under_way += begins
            most = max(most, under_way)
            under_way -= act.kind == BACKWARD
        assert most == min(m, pp - stage.index)


@given(st.integers(1, 64), st.integers(1, 64))
def test_the_bubble_is_below_a_fifth_from_four_micro_batches_a_stage(pp: int, more: int) -> None:
    assert 0 <= bubble(pp, 4 * pp + more) < bubble(pp, 4 * pp) < 0.2 or pp == 1
    assert bubble(1, more) == 0


def test_gradients_are_held_once_and_those_of_a_block_or_the_tables_twice_in_micro_batches() -> (
    None
):
    one = memory_of(Parallel(), PORTION)
    for parallel in (Parallel(), Parallel(dp=2), Parallel(mp=2), Parallel(pp=2)):
        alone = memory_of(parallel, PORTION)
        assert alone.gradients == alone.weights
    tables = (GEOMETRY.padded_vocab + GEOMETRY.positions) * GEOMETRY.hidden
    block = (parameter_count(GEOMETRY) - (GEOMETRY.vocab + 32 + 2) * 64) // GEOMETRY.layers
    several = memory_of(Parallel(micro_batches=2), PORTION)
    assert several.gradients - one.gradients == FLOATS * max(tables, block)
    half = Precision(compute="float16")
    assert memory_of(Parallel(), half, PORTION).gradients == one.gradients


@pytest.mark.parametrize(
    "parallel", [Parallel(), Parallel(mp=2), Parallel(mp=2, sequence_parallel=True)]
)
def test_the_logits_of_more_tokens_take_no_more_memory_but_the_gradient_of_the_table_twice(
    parallel: Parallel,
) -> None:
    labelled = attrs.evolve(GEOMETRY, labels=2)

    def of_logits(rows: int) -> tuple[int, int]:
        train = Train(batch_size=rows, seq_length=32)
        plain = memory_of(parallel, train)
        other = memory_of(parallel, train, geometry=labelled)
        more = FLOATS * 2 * 64  # the head of the classes
        return plain.activations - other.activations, plain.gradients - other.gradients + more

    logits, nothing = of_logits(16)
    table = FLOATS * GEOMETRY.padded_vocab * GEOMETRY.hidden // parallel.mp
    assert nothing == 0
    assert of_logits(32) == of_logits(128) == (logits, table)


def test_a_stage_without_adapters_has_no_gradients() -> None:
    first = LoRA(r=2, targets=r"h\.0\..*c_attn")
    assert memory_on(1, Parallel(pp=2, micro_batches=2), first).gradients == 0


@given(parallels, loras)
def test_sharing_the_state_takes_a_copy_of_the_own_rows(
    parallel: Parallel, lora: LoRA | None
) -> None:
    for stage in range(parallel.pp):
        apart = memory_on(stage, changed(parallel, optimizer_shard=False), lora)
        shared = memory_on(stage, changed(parallel, optimizer_shard=True), lora)
        assert shared.gradients == apart.gradients
        assert shared.activations == apart.activations
        assert shared.optimizer <= apart.optimizer
        if parallel.dp > 1 and not lora:  # all rows here divide by 4 but the three of c_attn's bias
            held = stages_of(parts_of(parallel, lora), GEOMETRY)[stage].held
            whole = 2 * FLOATS * sum(one.size for one in held if "c_attn.bias" in one.name)
            assert (shared.optimizer - whole) * parallel.dp == apart.optimizer - whole
            assert (shared.weights - apart.weights) * 2 == shared.optimizer - whole
        sgd = memory_on(stage, parallel, lora, Optim(name="sgd"))
        assert sgd.optimizer * 2 == memory_on(stage, parallel, lora).optimizer


@given(parallels)
def test_recomputing_and_sharing_never_take_more(parallel: Parallel) -> None:
    for stage in range(parallel.pp):

        def activations(stage: int = stage, **changes: Any) -> int:
            return memory_on(stage, changed(parallel, **changes)).activations

        ways = ("none", "selective", "full")
        none, selective, full = (activations(recompute=way) for way in ways)
        assert none >= selective
        one_block = len(layers_of(stage, GEOMETRY.layers, parallel.pp)) == 1
        assert one_block or none >= full
        assert activations(sequence_parallel=True) <= activations(sequence_parallel=False)
    assert activations(mp=8) <= activations(mp=1)


def test_a_stage_keeps_only_the_inputs_of_micro_batches_that_wait() -> None:
    smooth = attrs.evolve(GEOMETRY, dropout=0.0)

    def activations(m: int) -> int:
        train = Train(batch_size=8 * m, seq_length=32)
        return memory_of(
            Parallel(pp=3, micro_batches=m), train, geometry=attrs.evolve(smooth, labels=2)
        ).activations

    assert activations(1) <= activations(8) <= activations(1) + 2 * 8 * 32 * 64 * FLOATS


def test_a_classifier_keeps_no_logits_of_the_vocabulary() -> None:
    labelled = attrs.evolve(GEOMETRY, labels=2)
    logits = 2 * 512 * GEOMETRY.padded_vocab * FLOATS
    plain = memory_of(Parallel(), PORTION).activations
    assert plain - memory_of(Parallel(), PORTION, geometry=labelled).activations == logits
    head = LoRA(r=4), Classifier(labels=2)
    assert memory_of(Parallel(), *head, geometry=labelled).gradients == FLOATS * (
        6 * 4 * (64 + 3 * 64) + 2 * 64
    )


def test_an_evaluation_takes_the_rows_of_a_micro_batch_on_a_rank() -> None:
    task = Task.evaluate(data="a")

    def activations(parallel: Parallel, rows: int) -> int:
        return memory_of(parallel, task, Train(batch_size=rows, seq_length=32)).activations

    whole = activations(Parallel(), 4)
    assert activations(Parallel(micro_batches=16), 64) == whole
    assert activations(Parallel(dp=4, micro_batches=4), 64) == whole
    assert activations(Parallel(micro_batches=2), 64) > whole


def test_an_evaluation_has_logits_on_the_last_stage_alone() -> None:
    parallel, task = Parallel(pp=2), Task.evaluate(data="a")
    first, last = (memory_on(stage, parallel, PORTION, task).activations for stage in (0, 1))
    assert last - first == 2 * FLOATS * GEOMETRY.padded_vocab * 512


def test_an_evaluation_runs_on_a_pipeline_and_heeds_its_micro_batches() -> None:
    parallel = Parallel(pp=2, dp=2, micro_batches=2)
    plan = (Model(size="124m") | parallel | Train(batch_size=8) | Task.evaluate(data="a")).plan()
    assert plan.layout
    assert [stage.layers for stage in plan.layout.stages] == [(0, 5), (6, 11)]
    assert not [note for note in plan.notes if "micro_batches" in note]


@pytest.mark.parametrize("task", [Task.generate(prompts=["a"]), Task.classify(texts=["a"])])
def test_tasks_without_a_pipeline_refuse_one(task: Task) -> None:
    recipe = Model(size="124m") | Parallel(pp=2, dp=2) | task
    if task.kind == "classify":
        recipe |= Classifier()
    with pytest.raises(SpecError) as caught:
        recipe.plan()
    (fault,) = caught.value.faults
    assert (fault.code, fault.key) == ("G2-107", "parallel.pp = 2")
    assert recipe.set("parallel.pp", 1).plan().layout


@pytest.mark.parametrize(
    ("parallel", "said"),
    [
        (Parallel(optimizer_shard=True), "parallel.optimizer_shard changes nothing: dp is 1"),
        (Parallel(sequence_parallel=True), "parallel.sequence_parallel changes nothing: mp is 1"),
        (Parallel(pp=4, micro_batches=2), "each waits 60% of a step; 16 make it less than 20%"),
    ],
)
def test_what_changes_nothing_or_wastes_much_is_a_note(parallel: Parallel, said: str) -> None:
    (note,) = (Model(size="124m") | parallel | TASK).plan().notes
    assert said in note


@pytest.mark.parametrize(
    "parallel",
    [
        Parallel(dp=2, optimizer_shard=True),
        Parallel(mp=2, sequence_parallel=True),
        Parallel(pp=4, micro_batches=4),
        Parallel(),
    ],
)
def test_what_has_its_effect_is_no_note(parallel: Parallel) -> None:
    assert not (Model(size="124m") | parallel | TASK).plan().notes


def test_a_plan_of_several_ranks_says_how_they_share_the_work() -> None:
    recipe = Recipe.load("specs/gpt2-13b-pretrain.toml")
    lines = str(recipe.plan()).splitlines()
    words = " ".join(line.strip() for line in lines)
    assert "attn.c_attn [5120, 15360] → [5120, 1920] (mp: heads)" in words
    assert "1/4 of the optimizer state of 444 of 484 tensors (dp)" in words
    assert any(line.startswith("  traffic  per rank and step: dp ") for line in lines)
    assert max(map(len, lines)) <= 110
    text = str(recipe.set("parallel.pp", 3).set("parallel.mp", 1).plan())
    assert "3 of 13 or 14 layers: ranks 0-3 layers 0-13, ranks 4-7 layers 14-26, ranks" in text
    assert "66.7% of a step: 2 / (1 + 2)" in text


def test_a_plan_of_one_rank_says_nothing_of_sharing() -> None:
    plan = (Model(size="124m") | TASK).plan()
    assert plan.layout
    assert plan.layout.traffic == Traffic(0, 0, 0)
    assert not {"layout", "stages", "traffic", "bubble"} & set(str(plan).split())


def test_nothing_trained_has_no_traffic_and_no_state() -> None:
    plan = (Model(size="124m") | Parallel(mp=2) | Task.evaluate(data="a")).plan()
    assert plan.layout
    assert plan.layout.traffic is None
    assert {role.state for role in plan.layout.roles} == {None}
    assert "traffic" not in str(plan)
    assert Recipe(Task.convert(source="a", target="b")).plan().layout is None


def test_json_has_the_whole_layout() -> None:
    plan = Recipe.load("specs/gpt2-52b-pretrain.toml").plan()
    found = json.loads(plan.to_json_text())["layout"]
    assert [stage["layers"] for stage in found["stages"]][:2] == [[0, 3], [4, 7]]
    assert found["traffic"].keys() == {"dp", "mp", "pp"}
    assert found["bubble"] == 15 / 79
    by_name = {role["name"]: role for role in found["roles"]}
    assert by_name["attn.c_attn.weight"]["state"] == [1024, 24576]
    assert by_name["wte.weight"]["shape"] == [50304, 8192]
