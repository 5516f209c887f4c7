"""Common parts of all request bodies."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import pydantic_core
from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue

from gpt2dsl.errors import did_you_mean
from gpt2dsl.serve.errors import ApiError

NULL = {"type": "null"}

MOST_KEYS = 100
"""Maximum keys of a table."""

MOST_CONTAINERS = 5_000
"""Maximum lists and tables in a body. A million bytes can contain half a million, which take a
second to parse and to free; no valid request has as many."""

_PIECE = 64 << 10
"""Bytes scanned at once, since scanning holds the GIL."""

Demands = Mapping[str, JsonSchemaValue]
"""Key → schema of bodies with that key, if it constrains other keys."""


class Body(BaseModel):
    """A table of keys; a key that is null counts as absent, and 2.0 is an integer as in JSON.

    That holds for unknown keys too: clients send all keys of a later version as null, which asks
    for nothing.
    """

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    DEMANDS: ClassVar[Demands] = {}
    """Demands of the keys that a class adds."""

    @model_validator(mode="before")
    @classmethod
    def _normalized(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        if len(body) > MOST_KEYS:  # pydantic would collect a fault for each
            raise ValueError(f"{len(body)} keys are more than {MOST_KEYS}")
        return {key: as_integer(value) for key, value in without_nulls(body).items()}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: pydantic_core.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema, in which every optional key may be null."""
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        required = schema.get("required", [])
        for key, of_key in schema.get("properties", {}).items():
            if key not in required and of_key:
                schema["properties"][key] = {"anyOf": [of_key, NULL]}
        schema |= {"additionalProperties": NULL, "maxProperties": MOST_KEYS}
        demands: dict[str, JsonSchemaValue] = {}
        for kind in cls.__mro__:
            demands |= vars(kind).get("DEMANDS", {})
        if demands:
            schema["dependentSchemas"] = demands
        return reference


def without_nulls(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a table that are not null."""
    return {key: value for key, value in table.items() if value is not None}


def neutral(key: str, value: Any) -> JsonSchemaValue:
    """Return the schema of bodies in which a key is absent, null or has its neutral value."""
    return {"properties": {key: {"enum": [value, None]}}}


def as_integer(value: Any) -> Any:
    """Return a float without a fraction as an integer, any other value unchanged."""
    return int(value) if type(value) is float and value.is_integer() else value


Anything = Any
"""The value of a key that has no effect here."""


class Shaped:
    """Annotation of a key whose value is validated by a function, which raises ValueError.

    pydantic would report for each element of a long list why it is of none of the allowed types.
    """

    def __init__(self, check: Callable[[Any], Any], schema: JsonSchemaValue) -> None:
        self._check, self._schema = check, schema

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> pydantic_core.CoreSchema:
        """Return a schema that accepts any value and calls the function."""
        return pydantic_core.core_schema.no_info_after_validator_function(
            self._check, pydantic_core.core_schema.any_schema()
        )

    def __get_pydantic_json_schema__(
        self, core_schema: pydantic_core.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return copy.deepcopy(self._schema)


class Neutral(Shaped):
    """Annotation of a key of OpenAI's that is not supported: only neutral values are accepted."""

    def __init__(self, *values: Any) -> None:
        super().__init__(self._neutral, {"enum": list(values)} if values else NULL)
        self._values = values

    def _neutral(self, value: Any) -> Any:
        if not any(
            type(value) is type(neutral_value) and value == neutral_value
            for neutral_value in self._values
        ):
            raise ValueError("not supported here")
        return value


T = TypeVar("T", bound=Body)


def parsed(kinds: Sequence[type[T]], raw: bytes) -> T:
    """Parse and validate the body of a request, whose type is found by its required keys.

    Raises:
        ApiError: the body is not JSON, has too many containers or is of none of the types.
    """
    if (count := containers(raw)) > MOST_CONTAINERS:
        raise ApiError(400, f"the body has {count} lists and tables, more than {MOST_CONTAINERS}")
    try:
        # Unlike json.loads, it limits depth and rejects NaN and lone surrogates.
        document = pydantic_core.from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise ApiError(400, f"the body is no JSON object but {_kind(document)}")
    fitting = (kind for kind in kinds if _required(kind) <= without_nulls(document).keys())
    kind = next(fitting, kinds[0])
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        name, *within = map(str, reversed(first["loc"]))
        message = f"unknown key{'' if within else did_you_mean(name[:64], _keys(kind))}"
    key = str(first["loc"][0])[:64] if first["loc"] else None
    raise ApiError(400, f"{place[:200]}: {message}".removeprefix(": "), param=key)


def containers(raw: bytes) -> int:
    """Count the lists and tables of a JSON document.

    Brackets are counted, and those within strings are excluded only if there are many.
    """
    count = raw.count(b"[") + raw.count(b"{")
    if count <= MOST_CONTAINERS:
        return count
    plain = raw.replace(rb"\\", b"").replace(rb"\"", b"")
    count, is_within = 0, False
    for start in range(0, len(plain), _PIECE):
        piece = plain[start : start + _PIECE]
        bare = _TEXTS.sub(b"", b'"' + piece if is_within else piece)
        count += bare.count(b"[") + bare.count(b"{")
        is_within ^= piece.count(b'"') % 2 == 1
    return count


_TEXTS = re.compile(rb'"[^"]*"?')


def _required(kind: type[Body]) -> set[str]:
    return {field.alias or name for name, field in kind.model_fields.items() if field.is_required()}


def _keys(kind: type[Body]) -> Iterable[str]:
    return (field.alias or name for name, field in kind.model_fields.items())


def _kind(document: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(document), "a number")
