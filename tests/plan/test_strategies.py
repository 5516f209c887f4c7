from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpt2dsl import LoRA, Model, Optim, Parallel, Recipe, RunError, SpecError, Task
from gpt2dsl.layout.checkpoint_tensors import filed
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.weights.files import strategyfile


def test_a_recipe_that_no_laptop_can_run_has_its_strategy_files(tmp_path: Path) -> None:
    plan = Recipe.load("gpt2-13b-pretrain").plan()
    assert plan.write_strategies(tmp_path / "there") == 32
    found = strategyfile.read(tmp_path / "there")
    assert list(found) == [0]
    assert {layout.devices for layout in found[0].values()} == {(4, 8)}
    assert len(found[0]) == 3 * (12 * 40 + 4)
    assert found[0]["transformer.h.7.attn.c_attn.weight"].axes == (-1, -1, 0)


def test_each_stage_has_its_own_tensors_and_both_ends_the_table(tmp_path: Path) -> None:
    recipe = Recipe.load("gpt2-52b-pretrain").set("parallel.optimizer_shard", True)
    assert recipe.plan().write_strategies(tmp_path) == 128
    found = strategyfile.read(tmp_path)
    assert sorted(found) == list(range(16))
    with_table = [stage for stage in found if "transformer.wte.weight" in found[stage]]
    assert with_table == [0, 15]
    assert found[15]["m.transformer.wte.weight"].parts == (8, 1)
    blocks = [set(re.findall(r"\.h\.(\d+)\.", " ".join(found[stage]))) for stage in found]
    assert all(len(numbers) == 4 for numbers in blocks[1:15])


def test_the_optimizer_decides_which_states_there_are(tmp_path: Path) -> None:
    recipe = Model(size="124m") | Parallel(mp=2) | Optim(name="sgd") | Task.pretrain(data="a")
    recipe.plan().write_strategies(tmp_path / "sgd")
    found = strategyfile.read(tmp_path / "sgd")[0]
    assert {name.split(".")[0] for name in found} == {"transformer", "u"}
    measured = Model(size="124m") | Parallel(mp=2) | Task.evaluate(data="a")
    measured.plan().write_strategies(tmp_path / "none")
    assert {name.split(".")[0] for name in strategyfile.read(tmp_path / "none")[0]} == {
        "transformer"
    }


def test_adapters_have_none_and_a_file_is_no_folder(tmp_path: Path) -> None:
    tuned = Model(size="124m") | LoRA() | Parallel(mp=2) | Task.finetune(data="a")
    with pytest.raises(SpecError, match="adapters are whole in every layout"):
        tuned.plan().write_strategies(tmp_path / "a")
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "ckpt_strategy_rank_0.ckpt").touch()
    for name in ("file", "full"):
        with pytest.raises(RunError, match="it is there already, and not an empty folder"):
            Recipe.load("gpt2-13b-pretrain").plan().write_strategies(tmp_path / name)
    with pytest.raises(RunError, match="it can't be written: Not a directory"):
        Recipe.load("gpt2-13b-pretrain").plan().write_strategies(tmp_path / "file" / "below")


def test_zero_shares_moments_alone_and_only_rows_that_divide() -> None:
    geometry = GPT2Config(layers=1, heads=2, hidden=8, positions=3, vocab=10)
    table = {
        one.name: one for one in filed(geometry, ParallelDims(2, 2, 1), ("m", "master"), zero=True)
    }
    shares = {
        name
        for name, one in table.items()
        if one.layout.shared or (one.layout.axes and one.layout.axes[0] == 1)
    }
    assert all(name.startswith("m.") for name in shares)
    assert "m.transformer.wpe.weight" not in shares  # of three rows
    assert "m.transformer.h.0.attn.c_attn.bias" not in shares  # of queries, keys and values
    row = table["m.transformer.h.0.attn.c_proj.weight"].layout
    assert (row.axes, row.shared) == ((0, -1), 2)
    column = table["m.transformer.h.0.mlp.c_fc.weight"].layout
    assert (column.axes, column.shared) == ((1, 0), 0)
