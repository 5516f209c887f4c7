from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt2dsl import Model, Parallel, Recipe, Runtime, SpecError, Task, Train
from gpt2dsl.plan.plan import Plan
from tests.cluster.rank_tables import ONE, card, saved

SAMPLE = Model(size="nano") | Task.pretrain(data="sample:train") | Train(seq_length=64)


def planned(device: str = "ascend", dp: int = 8, table: str = "a.json") -> Plan:
    return (SAMPLE | Parallel(dp=dp) | Runtime(device=device, rank_table=table)).plan()


def test_a_rank_table_is_an_input_and_not_part_of_the_digest(elsewhere: Path) -> None:
    saved(elsewhere, card(ONE, "10.0.0.1"))
    plan = planned()
    assert not plan.refusals()
    assert "  rank_table  a.json   1 x 8 devices   " in str(plan)
    assert plan.digest == (SAMPLE | Parallel(dp=8)).plan().digest
    recipe = SAMPLE | Runtime(rank_table="a.json")
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert "rank_table" not in (SAMPLE | Runtime(output="x")).to_toml()


def test_a_table_of_other_ranks_is_refused_with_both_numbers(elsewhere: Path) -> None:
    saved(elsewhere, card(ONE, "10.0.0.1"))
    (fault,) = planned(dp=4).refusals()
    assert (fault.code, fault.key) == ("G2-522", "runtime.rank_table = a.json")
    assert "test_cluster.py:" in fault.origin
    assert fault.message == "it has 8 ranks, the recipe dp x mp x pp = 4"


def test_every_fault_of_a_table_is_told_at_the_key(elsewhere: Path) -> None:
    saved(elsewhere, {**card(ONE, "10.0.0.1"), "version": "2", "status": "new"})
    assert [fault.code for fault in planned().refusals()] == ["G2-512", "G2-512"]
    assert [fault.code for fault in planned(table="none.json").refusals()] == ["G2-301"]
    with pytest.raises(SpecError, match=r"runtime\.rank_table = none\.json: no such file"):
        planned(table="none.json").run()


def test_a_table_changes_nothing_elsewhere(elsewhere: Path) -> None:
    (elsewhere / "a.json").write_text(json.dumps({}))
    plan = planned("cpu")
    assert "runtime.rank_table changes nothing on cpu; ascend reads it" in plan.notes
    assert not plan.refusals()
