from __future__ import annotations

from pathlib import Path

import mindspore
import pytest
from mindspore.train import node_strategy_pb2

from gpt2dsl.errors import InputError
from gpt2dsl.layout.tensor_layout import TensorLayout
from gpt2dsl.weights.files import strategyfile

LAYOUTS = {
    "transformer.wte.weight": TensorLayout((2, 4), (0, -1)),
    "m.transformer.wte.weight": TensorLayout((2, 4), (0, -1), 2),
    "transformer.ln_f.bias": TensorLayout((2, 4), (-1,)),
}


def test_what_is_written_is_read_and_mindspore_reads_it_too(tmp_path: Path) -> None:
    path = tmp_path / "ckpt_strategy_rank_8.ckpt"
    path.write_bytes(strategyfile.content(1, LAYOUTS))
    assert strategyfile.read(path) == {1: LAYOUTS}
    theirs = mindspore.build_searched_strategy(str(path))
    assert list(theirs) == list(LAYOUTS)
    layout = theirs["m.transformer.wte.weight"]
    assert list(layout.dev_matrix[0].dim) == [2, 4]
    assert list(layout.tensor_map[0].dim) == [0, -1]
    assert (layout.opt_weight_shard_step, layout.opt_weight_shard_size) == (4, 2)


def their_file(path: Path, **changes: object) -> Path:
    found = node_strategy_pb2.ParallelStrategyMap(current_stage=0)
    layout = found.parallel_layout_item.add(param_name="a").parallel_layouts
    layout.dev_matrix.add(dim=changes.get("devices", [2, 2]))
    layout.tensor_map.add(dim=changes.get("axes", [0, -1]))
    layout.param_split_shape.add(dim=changes.get("uneven", []))
    layout.indices_offset.add()
    layout.field = changes.get("field", 0)
    layout.opt_weight_shard_step = 2
    layout.opt_weight_shard_size = changes.get("shared", 0)
    path.write_bytes(found.SerializeToString())
    return path


def test_minus_one_shares_over_all_that_are_left(tmp_path: Path) -> None:
    found = strategyfile.read(their_file(tmp_path / "a", shared=-1))
    assert found == {0: {"a": TensorLayout((2, 2), (0, -1), 2)}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": []}, r"a has the devices \(\)"),
        ({"devices": [2, 0]}, r"a has the devices \(2, 0\)"),
        ({"axes": [2, -1]}, r"and the axes \(2, -1\)"),
        ({"uneven": [3, 1]}, "a is cut unevenly"),
        ({"field": 8}, "a is cut unevenly"),
        ({"shared": 3}, "a is shared by 3 ranks of 2"),
        ({"axes": [], "shared": 2}, "a is shared by 2 ranks of 4"),
    ],
)
def test_layouts_that_make_no_sense_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        strategyfile.read(their_file(tmp_path / "a", **changes))


def test_absent_files_and_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        strategyfile.read(tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="it holds no strategy file"):
        strategyfile.read(tmp_path)
