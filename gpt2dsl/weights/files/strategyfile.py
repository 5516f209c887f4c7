"""MindSpore's strategy files: the layout of each parameter over ranks.

Source: node_strategy.proto (MindSpore 2.0 to 2.10). A file describes one pipeline stage; a
merged file prefixes each name with its stage, ``1-backbone.layernorm.gamma``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from gpt2dsl.errors import InputError
from gpt2dsl.layout.checkpoint_tensors import CheckpointTensorSpec
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.tensor_layout import TensorLayout

Stages = dict[int, dict[str, TensorLayout]]
"""Pipeline stage → parameter → layout over the ranks of the stage."""

PREFIX = "ckpt_strategy"
"""Prefix of MindFormers' file names: ``ckpt_strategy_rank_0.ckpt``."""

_PACKAGE = "mindspore.straspb"
_MERGED = re.compile(r"(\d+)-(.+)")
_MANY, _ONE = "repeated", "required"
_FIELDS: dict[str, tuple[tuple[str, int, str, str], ...]] = {
    "ParallelStrategy": (("dim", 1, _MANY, "uint32"),),
    "ParallelStrategys": (
        ("stage", 1, _ONE, "uint32"),
        ("parallel_strategy", 2, _MANY, "ParallelStrategy"),
    ),
    "ParallelStrategyItem": (
        ("node_name", 1, _ONE, "string"),
        ("parallel_strategys", 2, _ONE, "ParallelStrategys"),
    ),
    "DevMatrix": (("dim", 1, _MANY, "uint32"),),
    "TensorMap": (("dim", 1, _MANY, "int32"),),
    "ParamSplitShape": (("dim", 1, _MANY, "int64"),),
    "IndicesOffset": (("dim", 1, _MANY, "int64"),),
    "ParallelLayouts": (
        ("dev_matrix", 1, _MANY, "DevMatrix"),
        ("tensor_map", 2, _MANY, "TensorMap"),
        ("param_split_shape", 3, _MANY, "ParamSplitShape"),
        ("indices_offset", 4, _MANY, "IndicesOffset"),
        ("field", 5, _ONE, "int32"),
        ("opt_weight_shard_step", 6, _ONE, "int32"),
        ("opt_weight_shard_size", 7, _ONE, "int32"),
    ),
    "ParallelLayoutItem": (
        ("param_name", 1, _ONE, "string"),
        ("parallel_layouts", 2, _ONE, "ParallelLayouts"),
    ),
    "ParallelStrategyMap": (
        ("current_stage", 1, _ONE, "uint32"),
        ("parallel_strategy_item", 2, _MANY, "ParallelStrategyItem"),
        ("parallel_layout_item", 3, _MANY, "ParallelLayoutItem"),
    ),
}


def content(stage: int, layouts: Mapping[str, TensorLayout]) -> bytes:
    """Return the content of a strategy file, given a pipeline stage and its layouts."""
    message: Any = _message()
    message.current_stage = stage
    # MindSpore takes the stage from the first operator, and rejects a file without one as empty.
    operator = message.parallel_strategy_item.add(node_name="gpt2dsl")
    operator.parallel_strategys.stage = stage
    for name, layout in layouts.items():
        item = message.parallel_layout_item.add(param_name=name).parallel_layouts
        item.dev_matrix.add(dim=layout.devices)
        item.tensor_map.add(dim=layout.axes)
        item.param_split_shape.add()
        item.indices_offset.add()
        item.field = 0
        cut = [layout.devices[-1 - axis] for axis in layout.axes if axis >= 0]
        item.opt_weight_shard_step = _product(cut) if layout.shared else 0
        item.opt_weight_shard_size = layout.shared
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized


def write(folder: Path, table: Sequence[CheckpointTensorSpec], ranks: ParallelDims) -> None:
    """Write the strategy file of every rank into a folder.

    Raises:
        OSError: the disk is full or not writable.
    """
    for rank in range(ranks.count):
        stage = ranks.coordinates(rank).stage
        layouts = {tensor.name: tensor.layout for tensor in table if stage in tensor.stages}
        (folder / f"{PREFIX}_rank_{rank}.ckpt").write_bytes(content(stage, layouts))


def read(path: Path) -> Stages:
    """Return the layouts of a file, or of all files of a folder.

    Raises:
        InputError: a file is absent (G2-301), empty (G2-302), damaged, of an unsupported kind,
            or contradicts another file of the folder (G2-304).
    """
    if not path.is_dir():
        return _read_file(path)
    stages: Stages = {}
    for file in sorted(path.glob("*.ckpt")):
        for stage, layouts in _read_file(file).items():
            if stages.setdefault(stage, layouts) != layouts:
                message = f"it contradicts another file of stage {stage} in {path}"
                raise InputError("G2-304", file, message)
    if not stages:
        raise InputError("G2-301", path, "it holds no strategy file (*.ckpt)")
    return stages


def _read_file(path: Path) -> Stages:
    message: Any = _message()
    try:
        raw = path.read_bytes()
        message.ParseFromString(raw)
    except FileNotFoundError as error:
        raise InputError("G2-301", path, "there is no such file") from error
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror}") from error
    except DecodeError:
        raise InputError("G2-304", path, "it is no strategy file of MindSpore") from None
    if not raw:
        raise InputError("G2-302", path, "the file is empty")
    if not message.parallel_layout_item:
        raise InputError("G2-304", path, "it names no parameter: it is no whole strategy file")
    operators = message.parallel_strategy_item
    file_stage = operators[0].parallel_strategys.stage if operators else message.current_stage
    stages: Stages = {}
    for item in message.parallel_layout_item:
        match = _MERGED.fullmatch(item.param_name)
        stage, name = (int(match[1]), match[2]) if match else (file_stage, item.param_name)
        stages.setdefault(stage, {})[name] = _layout(path, name, item.parallel_layouts)
    return stages


def _layout(path: Path, name: str, item: Any) -> TensorLayout:
    devices = tuple(item.dev_matrix[0].dim) if item.dev_matrix else ()
    axes = tuple(item.tensor_map[0].dim) if item.tensor_map else ()
    uneven = item.field or any(shape.dim for shape in item.param_split_shape)
    if len(item.tensor_map) > 1 or uneven:
        message = f"{name} is cut unevenly, or along several axes at once, which is not read here"
        raise InputError("G2-304", path, message)
    if not devices or 0 in devices or any(not -1 <= axis < len(devices) for axis in axes):
        raise InputError("G2-304", path, f"{name} has the devices {devices} and the axes {axes}")
    unsharded = TensorLayout(devices, axes)
    replicas = unsharded.count // _product(unsharded.parts)
    shared = replicas if item.opt_weight_shard_size == -1 else item.opt_weight_shard_size
    if not 0 <= shared <= replicas or (shared and replicas % shared) or (shared > 1 and not axes):
        raise InputError("G2-304", path, f"{name} is shared by {shared} ranks of {replicas}")
    return TensorLayout(devices, axes, shared if shared > 1 else 0)


def _product(numbers: Any) -> int:
    return functools.reduce(lambda a, b: a * b, numbers, 1)


def _message() -> Message:
    return _class()()


@functools.cache
def _class() -> type[Message]:
    """Return the message class, from a private pool: MindSpore registers the same names."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="node_strategy.proto", package=_PACKAGE, syntax="proto2"
    )
    for message, fields in _FIELDS.items():
        message_proto = file.message_type.add(name=message)
        for name, number, label, kind in fields:
            field_proto = message_proto.field.add(name=name, number=number)
            field_proto.label = getattr(field, f"LABEL_{label.upper()}")
            if kind in _FIELDS:
                field_proto.type, field_proto.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field_proto.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName(f"{_PACKAGE}.ParallelStrategyMap")
    return message_factory.GetMessageClass(descriptor)
