"""Checkpoints that others have split over ranks: MindFormers' names, folders and strategy files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import mindspore
import numpy as np
import pytest
import torch
import yaml
from mindspore.train import node_strategy_pb2
from transformers import GPT2LMHeadModel

from gpt2dsl import Parallel, Recipe, Task
from gpt2dsl.errors import SpecError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.weights import location, reading
from gpt2dsl.weights.files import ckptfile
from gpt2dsl.weights.files.lazy_tensor import ArrayTensor
from gpt2dsl.weights.formats import mindformers
from gpt2dsl.weights.infer_config import Overrides
from tests.judges import hugging_face, random_ids, random_weights
from tests.weights.conftest import read_all

NET = GPT2Config(layers=5, heads=4, hidden=32, positions=16, vocab=301)


@attrs.frozen
class Theirs:
    """A checkpoint as a MindFormers job of dp, mp and pp leaves it."""

    dp: int
    mp: int
    pp: int
    zero: bool = False

    def stage(self, layer: int) -> int:
        """Facts, section 10: the remainder goes to the last."""
        return min(layer // max((NET.layers + 1) // self.pp, 1), self.pp - 1)

    def holds(self, stage: int, name: str) -> bool:
        inner = name.removeprefix("adam_m.").removeprefix("backbone.")
        if inner.startswith("blocks."):
            return self.stage(int(inner.split(".")[1])) == stage
        if inner.startswith("embedding.word"):
            return stage in (0, self.pp - 1)
        return stage == (0 if inner.startswith("embedding.") else self.pp - 1)

    def cut(self, name: str) -> int | None:
        """The axis that mp cuts."""
        axes = {"dense1": 0, "dense2": 0, "dense3": 0}
        leaf, kind = name.split(".")[-2:]
        if leaf in axes or (leaf == "mapping" and kind == "bias"):
            return 0
        if kind == "bias" or ".blocks." not in name:
            return None
        return {"mapping": 1, "projection": 0}.get(leaf)

    def shares(self, name: str) -> bool:
        """Whether dp shares it out: Linear weights alone."""
        linear = name.endswith(".weight") and ".blocks." in name
        return self.zero and linear and self.dp > 1

    def parts(self, name: str, array: Any) -> Iterator[Any]:
        """Of each rank of a stage."""
        for rank in range(self.dp * self.mp):
            copy, shard = divmod(rank, self.mp)
            axis = self.cut(name)
            part = array if axis is None else np.split(array, self.mp, axis)[shard]
            yield np.split(part, self.dp)[copy] if self.shares(name) else part

    def write(self, output: Path, tensors: dict[str, Any]) -> Path:
        for stage in range(self.pp):
            own = {name: array for name, array in tensors.items() if self.holds(stage, name)}
            parts = {name: list(self.parts(name, array)) for name, array in own.items()}
            for local in range(self.dp * self.mp):
                rank = stage * self.dp * self.mp + local
                folder = output / "checkpoint" / f"rank_{rank}"
                folder.mkdir(parents=True)
                held = {
                    name: ArrayTensor.of(np.ascontiguousarray(p[local]))
                    for name, p in parts.items()
                }
                held["global_step"] = ArrayTensor.of(np.array([7], np.float32))
                ckptfile.write(folder / f"gpt2_rank_{rank}-1_2.ckpt", held)
                self._strategy(output / "strategy", rank, stage, own)
        return output / "checkpoint"

    def _strategy(self, folder: Path, rank: int, stage: int, own: dict[str, Any]) -> None:
        folder.mkdir(exist_ok=True)
        found = node_strategy_pb2.ParallelStrategyMap(current_stage=stage)
        operator = found.parallel_strategy_item.add(node_name="Default/network/MatMul-op1")
        operator.parallel_strategys.stage = stage
        operator.parallel_strategys.parallel_strategy.add(dim=[self.dp, self.mp])
        for name, array in own.items():
            layout = found.parallel_layout_item.add(param_name=name).parallel_layouts
            layout.dev_matrix.add(dim=[self.dp, self.mp])
            cut = self.cut(name)
            layout.tensor_map.add(dim=[0 if i == cut else -1 for i in range(array.ndim)])
            layout.param_split_shape.add()
            layout.indices_offset.add()
            layout.field = 0
            layout.opt_weight_shard_step = self.mp if self.shares(name) else 0
            layout.opt_weight_shard_size = self.dp if self.shares(name) else 0
        path = folder / f"ckpt_strategy_rank_{rank}.ckpt"
        path.write_bytes(found.SerializeToString())


def under_their_names(arrays: dict[str, Any]) -> dict[str, Any]:
    held = {name: ArrayTensor.of(array) for name, array in arrays.items()}
    return {
        name: one.rows(0, one.length).reshape(one.shape)
        for name, one in mindformers.named(held).items()
    }


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    return random_weights(NET)


def written(folder: Path, arrays: dict[str, Any], layout: Theirs) -> Path:
    tensors = under_their_names(arrays)
    tensors |= {f"adam_m.{name}": array + 1 for name, array in tensors.items()}
    checkpoint = layout.write(folder / "output", tensors)
    said = {"num_heads": NET.heads, "num_layers": NET.layers, "hidden_act": "gelu"}
    (checkpoint / "run.yaml").write_text(yaml.safe_dump({"model": {"model_config": said}}))
    return checkpoint


LAYOUTS = [
    Theirs(2, 1, 1),
    Theirs(1, 4, 1),
    Theirs(1, 1, 3),
    Theirs(2, 2, 2),
    Theirs(2, 2, 2, zero=True),
    Theirs(4, 1, 1, zero=True),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_mindformers_job_becomes_a_folder_that_transformers_loads(
    tmp_path: Path, arrays: dict[str, Any], layout: Theirs
) -> None:
    source = written(tmp_path, arrays, layout)
    target = tmp_path / "hf"
    Recipe(Task.reshard(source=str(source), target=str(target), layout=Parallel())).plan().run()
    model = GPT2LMHeadModel.from_pretrained(target, attn_implementation="eager").eval().double()
    ids = torch.tensor(random_ids(NET, 2, 9), dtype=torch.long)
    expected = hugging_face(NET, arrays)(ids).logits
    torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize("layout", [one for one in LAYOUTS if not one.zero], ids=str)
def test_dp_mp_and_pp_say_as_much_as_the_strategy_files(
    tmp_path: Path, arrays: dict[str, Any], layout: Theirs
) -> None:
    source = written(tmp_path, arrays, layout)
    shutil.rmtree(tmp_path / "output" / "strategy")
    overrides = Overrides(split=ParallelDims(layout.dp, layout.mp, layout.pp))
    found = reading.read(source, overrides).arrays
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_merged_strategy_file_says_as_much_as_those_of_all_ranks(
    tmp_path: Path, arrays: dict[str, Any]
) -> None:
    source = written(tmp_path, arrays, Theirs(1, 2, 3))
    merged = tmp_path / "merged_ckpt_strategy.ckpt"
    mindspore.merge_pipeline_strategys(str(tmp_path / "output" / "strategy"), str(merged))
    shutil.rmtree(tmp_path / "output" / "strategy")
    found = reading.read(source, Overrides(strategy=str(merged))).arrays
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def refusal(source: Path, **overrides: Any) -> str:
    with pytest.raises(SpecError) as error:
        read_all(source, Overrides(**overrides))
    (fault,) = error.value.faults
    return str(fault)


def rewrite(file: Path, change: Any) -> None:
    """A checkpoint with other tensors."""
    tensors = {
        name: ArrayTensor.of(one.rows(0, one.length).reshape(one.shape))
        for name, one in ckptfile.stored(file).items()
    }
    change(tensors)
    file.unlink()
    ckptfile.write(file, tensors)


GAMMA = "backbone.blocks.0.layernorm1.gamma"
DENSE = "backbone.blocks.0.attention.dense1.weight"


def missing_rank(checkpoint: Path) -> str:
    shutil.rmtree(checkpoint / "rank_1")
    return "rank_1: there is no such folder, but rank_3 is there"


def missing_last(checkpoint: Path) -> str:
    shutil.rmtree(checkpoint / "rank_3")
    return "rank_3: there is no such folder; "


def two_files(checkpoint: Path) -> str:
    file = next((checkpoint / "rank_2").glob("*.ckpt"))
    shutil.copy(file, file.with_name("gpt2_rank_2-1_4.ckpt"))
    return "rank_2: it holds 2 checkpoints, one is expected: gpt2_rank_2-1_2.ckpt, gpt2"


def no_file(checkpoint: Path) -> str:
    next((checkpoint / "rank_2").glob("*.ckpt")).unlink()
    return "rank_2: it holds no .ckpt and no .safetensors"


def truncated(checkpoint: Path) -> str:
    file = next((checkpoint / "rank_2").glob("*.ckpt"))
    file.write_bytes(file.read_bytes()[:-100])
    return f"{file}: it is no whole MindSpore checkpoint"


def no_strategy(checkpoint: Path) -> str:
    shutil.rmtree(checkpoint.parent / "strategy")
    return "it is split over 4 ranks, and nothing says how"


def empty_strategies(checkpoint: Path) -> str:
    for file in (checkpoint.parent / "strategy").iterdir():
        file.unlink()
    return "it holds no strategy file"


def damaged_strategy(checkpoint: Path) -> str:
    file = checkpoint.parent / "strategy" / "ckpt_strategy_rank_2.ckpt"
    file.write_bytes(b"\xff" + file.read_bytes())
    return f"{file}: it is no strategy file of MindSpore"


def empty_strategy(checkpoint: Path) -> str:
    file = checkpoint.parent / "strategy" / "ckpt_strategy_rank_2.ckpt"
    file.write_bytes(b"")
    return f"{file}: the file is empty"


def with_strategies_of(checkpoint: Path, layout: Theirs) -> None:
    shutil.rmtree(checkpoint.parent / "strategy")
    other = checkpoint.parent.parent / "other"
    layout.write(other, under_their_names(random_weights(NET)))
    (other / "strategy").rename(checkpoint.parent / "strategy")


def other_strategies(checkpoint: Path) -> str:
    """Of as many ranks, but dp 1 and mp 4."""
    with_strategies_of(checkpoint, Theirs(1, 4, 1))
    return "of another shape: transformer.h.0.attn.c_attn.weight is 32x192, not 32x96"


def strategies_of_eight(checkpoint: Path) -> str:
    with_strategies_of(checkpoint, Theirs(2, 2, 2))
    return "rank_4: there is no such folder; "


def contradicting(checkpoint: Path) -> str:
    folder = checkpoint.parent / "strategy"
    other = checkpoint.parent.parent / "other"
    Theirs(4, 1, 1).write(other, under_their_names(random_weights(NET)))
    shutil.copy(other / "strategy" / "ckpt_strategy_rank_3.ckpt", folder)
    return "it contradicts another file of stage 0"


def unlike_copies(checkpoint: Path) -> str:
    file = next((checkpoint / "rank_3").glob("*.ckpt"))

    def change(tensors: dict[str, ArrayTensor]) -> None:
        tensors[GAMMA] = ArrayTensor.of(np.zeros(NET.hidden, np.float32))

    rewrite(file, change)
    return f"{file}: {GAMMA}: it holds other values than {checkpoint / 'rank_0'}"


def missing_tensor(checkpoint: Path) -> str:
    file = next((checkpoint / "rank_3").glob("*.ckpt"))
    rewrite(file, lambda tensors: tensors.pop(GAMMA))
    return f"{file}: 1 missing: {GAMMA}, which rank_0 has"


def other_shape(checkpoint: Path) -> str:
    file = next((checkpoint / "rank_3").glob("*.ckpt"))

    def change(tensors: dict[str, ArrayTensor]) -> None:
        tensors[DENSE] = ArrayTensor.of(np.zeros((3, 5), np.float32))

    rewrite(file, change)
    return f"{file}: {DENSE} is [3, 5] F32, and [16, 32] F32 in rank_0"


@pytest.mark.parametrize(
    "damage",
    [
        missing_rank, missing_last, two_files, no_file, truncated, no_strategy, empty_strategies,
        damaged_strategy, empty_strategy, other_strategies, strategies_of_eight, contradicting,
        unlike_copies, missing_tensor, other_shape,
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_with_its_file(
    tmp_path: Path, arrays: dict[str, Any], damage: Any
) -> None:
    source = written(tmp_path, arrays, Theirs(2, 2, 1))
    expected = damage(source)
    assert expected in refusal(source)


def test_a_layout_that_the_files_contradict_is_refused(
    tmp_path: Path, arrays: dict[str, Any]
) -> None:
    source = written(tmp_path, arrays, Theirs(2, 2, 1))
    assert "it is of 4 ranks, 1 stages of 2x2, and dp=2,mp=1,pp=1 was named" in refusal(
        source, split=ParallelDims(dp=2)
    )
    shutil.rmtree(tmp_path / "output" / "strategy")
    assert "it has 4 ranks, the layout that was named 8" in refusal(
        source, split=ParallelDims(2, 2, 2)
    )
    wrong = refusal(source, split=ParallelDims(4, 1, 1))
    assert "15 of another shape: " in wrong
    assert "so the layout that was named joins them" in wrong
    assert "only its strategy files say: task.source_strategy" in refusal(
        source, split=ParallelDims(2, 2, 1), zero=True
    )


def test_whole_weights_are_no_checkpoint_of_ranks(tmp_path: Path, arrays: dict[str, Any]) -> None:
    source = written(tmp_path, arrays, Theirs(1, 1, 1))
    shutil.rmtree(tmp_path / "output" / "strategy")
    assert "it is whole, not split over ranks" in refusal(source, split=ParallelDims(dp=2))
    found = reading.read(source).arrays
    np.testing.assert_array_equal(found["transformer.wte.weight"], arrays["transformer.wte.weight"])
    assert location.find(source).is_split is False
