"""MindSpore's .ckpt format: a sequence of protobuf messages, each a tensor or a slice of one.

::

    Checkpoint { repeated Value value = 1; }
    Value { string tag = 1; TensorProto tensor = 2; }
    TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3; }

The protobuf library reads whole files into memory and rejects those above 2 GB, so this module
decodes the small part of the wire format that it needs. Source: mindspore/train/serialization.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import attrs

from gpt2dsl.errors import InputError
from gpt2dsl.weights.files.hashing import hashed
from gpt2dsl.weights.files.lazy_tensor import FileTensor, LazyTensor

_KINDS = {"Float32": "F32", "Float16": "F16", "BFloat16": "BF16", "Float64": "F64"}

SLICE = 512 * 2**20
"""Maximum bytes of a tensor in one message; MindSpore slices larger tensors in the same way."""

_CRC = b"crc_num"
"""Prefix of MindSpore's optional checksum at the end of the file; ten bytes follow."""

_VARINT, _BYTES = 0, 2


class _DamageError(Exception):
    """Bytes that are not a valid message."""


@attrs.frozen
class _Slice:
    tag: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    length: int


def is_checkpoint(path: Path, start: bytes) -> bool:
    """Return whether a file is a MindSpore checkpoint: its first message must parse."""
    if start[:1] != b"\n":
        return False
    try:
        with path.open("rb") as file:
            return bool(next(_slices(file, path.stat().st_size)).tag)
    except (_DamageError, StopIteration):
        return False


def stored(path: Path) -> dict[str, LazyTensor]:
    """Return the tensors of a file by name.

    Raises:
        InputError: the file is damaged or can't be read (G2-304).
    """
    slices: dict[str, list[_Slice]] = {}
    try:
        with path.open("rb") as file:
            for piece in _slices(file, path.stat().st_size):
                slices.setdefault(piece.tag, []).append(piece)
    except _DamageError as error:
        raise InputError("G2-304", path, f"it is no whole MindSpore checkpoint: {error}") from None
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror}") from error
    return {tag: _tensor(path, tag, pieces) for tag, pieces in slices.items()}


def _tensor(path: Path, tag: str, pieces: list[_Slice]) -> LazyTensor:
    first = pieces[0]
    if any((piece.kind, piece.shape) != (first.kind, first.shape) for piece in pieces):
        raise InputError("G2-304", path, f"the slices of {tag} contradict each other")
    tensor = FileTensor(first.kind, first.shape, path, tuple((p.offset, p.length) for p in pieces))
    total = sum(piece.length for piece in pieces)
    if tensor.readable and total != tensor.size:
        message = f"{tag} has {total:,} bytes, its shape needs {tensor.size:,}"
        raise InputError("G2-304", path, message)
    return tensor


def _slices(file: BinaryIO, size: int) -> Iterator[_Slice]:
    while (place := file.tell()) < size:
        if size - place == len(_CRC) + 10 and file.read(len(_CRC)) == _CRC:
            return
        file.seek(place)
        number, value = _field(file, size)
        if number != 1 or not isinstance(value, range):
            raise _DamageError(f"at byte {place:,} no parameter begins")
        yield _value(file, value)
        file.seek(value.stop)


def _value(file: BinaryIO, place: range) -> _Slice:
    """Parse one parameter, or a slice of one."""
    fields = dict(_fields(file, place))
    name, tensor = fields.get(1), fields.get(2)
    if not isinstance(name, range) or not isinstance(tensor, range):
        raise _DamageError(f"at byte {place.start:,} a parameter without a name or a tensor")
    tag = _text(file, name)
    message = list(_fields(file, tensor))
    dims = [value for number, value in message if number == 1 and isinstance(value, int)]
    fields = dict(message)
    kind, content = fields.get(2), fields.get(3)
    if not isinstance(kind, range) or not isinstance(content, range):
        raise _DamageError(f"{tag} is no tensor")
    if dims == [0] and content:
        dims = []  # MindSpore's encoding of a scalar.
    if any(not 0 <= n < 2**40 for n in dims):
        raise _DamageError(f"{tag} has the shape {dims}")
    type_name = _text(file, kind)
    return _Slice(tag, _KINDS.get(type_name, type_name), tuple(dims), content.start, len(content))


def _fields(file: BinaryIO, place: range) -> Iterator[tuple[int, int | range]]:
    """Yield the number and the value of each field of a message."""
    file.seek(place.start)
    while file.tell() < place.stop:
        number, value = _field(file, place.stop)
        next_field = file.tell() if isinstance(value, int) else value.stop
        yield number, value
        file.seek(next_field)


def _field(file: BinaryIO, end: int) -> tuple[int, int | range]:
    """Return the number of a field and its value: an integer, or the range of its bytes."""
    key = _varint(file, end)
    if key & 7 == _VARINT:
        return key >> 3, _varint(file, end)
    if key & 7 != _BYTES:
        raise _DamageError(f"at byte {file.tell():,} is no field")
    length = _varint(file, end)
    start = file.tell()
    if start + length > end:
        raise _DamageError(
            f"at byte {start:,} are {end - start:,} bytes left where {length:,} should be"
        )
    return key >> 3, range(start, start + length)


def _varint(file: BinaryIO, end: int) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1) if file.tell() < end else b""
        if not byte:
            raise _DamageError(f"it ends at byte {end:,}, within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _DamageError(f"at byte {file.tell():,} is no number")


def _text(file: BinaryIO, place: range) -> str:
    if len(place) > 4096:
        raise _DamageError(f"at byte {place.start:,} is no name")
    file.seek(place.start)
    try:
        return file.read(len(place)).decode()
    except UnicodeDecodeError:
        raise _DamageError(f"at byte {place.start:,} is no name") from None


def write(path: Path, tensors: Mapping[str, LazyTensor]) -> str:
    """Write tensors in the given order, with one block in memory at a time.

    Returns:
        The file's checksum.

    Raises:
        OSError: the disk is full or not writable.
    """
    with hashed(path) as file:
        for tag, tensor in tensors.items():
            count = max(1, math.ceil(tensor.size / SLICE))
            cuts = [tensor.length * i // count for i in range(count + 1)]
            for first, last in itertools.pairwise(cuts):
                length = tensor.size * (last - first) // max(1, tensor.length)
                file.write(_header(tag, tensor, length))
                for block in tensor.blocks(first, last):
                    file.write(block.data)
    return file.checksum()


def _header(tag: str, tensor: LazyTensor, length: int) -> bytes:
    """Return a message without the tensor's bytes, which come last."""
    kind = next(name for name, known_kind in _KINDS.items() if known_kind == tensor.kind)
    message = b"".join(b"\x08" + _number(n) for n in tensor.shape)
    message += b"\x12" + _sized(kind.encode()) + b"\x1a" + _number(length)
    value = b"\n" + _sized(tag.encode()) + b"\x12" + _number(len(message) + length) + message
    return b"\n" + _number(len(value) + length) + value


def _sized(text: bytes) -> bytes:
    return _number(len(text)) + text


def _number(value: int) -> bytes:
    """Return an integer encoded as a varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
