"""/openapi.json: schemathesis judges it in tests/clients; here is what is seen without it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gpt2dsl.serve.openapi import numbers_to
from tests.serve.in_process import Client


@pytest.fixture(scope="module")
def described(alphabet: Client) -> Any:
    return alphabet.http.get("/openapi.json").json()


def test_every_path_is_described_under_an_id_of_its_own(described: Any) -> None:
    operations = [one for path in described["paths"].values() for one in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids)) == 11
    for operation in operations:
        assert {"200", "400", "401", "403", "500"} <= operation["responses"].keys()
    posted = [path["post"] for path in described["paths"].values() if "post" in path]
    assert len(posted) == 4
    for operation in posted:
        assert {"404", "408", "413", "415", "503"} <= operation["responses"].keys()
        assert operation["requestBody"]["content"].keys() == {"application/json"}


def test_every_reference_leads_somewhere(described: Any) -> None:
    schemas = described["components"]["schemas"]
    named = set(re.findall(r"'#/components/schemas/(\w+)'", str(described)))
    assert named <= schemas.keys()
    assert {"CompletionRequest", "ChatRequest", "ErrorDocument", "Completion", "Chat"} <= named


def test_limits_of_this_server_and_nulls_are_told(described: Any, alphabet: Client) -> None:
    schema = described["components"]["schemas"]["CompletionRequest"]
    keys = schema["properties"]
    assert schema["additionalProperties"] is False
    assert all({"type": "null"} in key["anyOf"] for key in keys.values() if "anyOf" in key)
    assert keys["n"]["anyOf"][0]["maximum"] == 12
    assert keys["stop"]["anyOf"][0]["anyOf"][1]["maxItems"] == 4
    last = alphabet.lm.geometry.vocab - 1
    assert described["components"]["schemas"]["TokenId"]["maximum"] == last


@pytest.mark.parametrize("last", [0, 7, 9, 10, 99, 100, 319, 4095, 50256])
def test_numbers_up_to_one_are_matched_and_no_others(last: int) -> None:
    matches = re.compile(f"^({numbers_to(last)})$").match
    for number in {*range(min(last + 200, 5000)), last - 1, last, last + 1, last * 10} - {-1}:
        assert bool(matches(str(number))) == (number <= last)
    assert not matches("01")
