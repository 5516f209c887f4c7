"""The page at /: what it is made of and may do; tests/page uses it in a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typing_extensions import override

from gpt2dsl.serve import page


@pytest.fixture(scope="module")
def client() -> TestClient:
    served = FastAPI()
    served.include_router(page.routes())
    return TestClient(served)


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and the text within scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    @override
    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style"):
            self.inline += data.strip()


@pytest.mark.parametrize("path", page.PATHS)
def test_every_file_has_its_type_and_a_policy_without_exceptions(
    client: TestClient, path: str
) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == f"{page.FILES[path][1]}; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert "*" not in policy
    assert client.head(path).status_code == 200


def test_it_refers_to_nothing_but_its_own_files(client: TestClient) -> None:
    tags = Tags(client.get("/").text)
    links = [
        attributes[key]
        for _, attributes in tags.found
        for key in ("src", "href", "action", "data", "poster", "srcset")
        if key in attributes
    ]
    assert sorted(map(str, links)) == ["data:,", "page.css", "page.js"]
    for path in page.PATHS:
        assert not re.search(r"\b(https?|wss?|ftp):|[\"'(]//|@import|url\(", client.get(path).text)


def test_nothing_in_it_needs_what_its_policy_forbids(client: TestClient) -> None:
    tags = Tags(client.get("/").text)
    assert tags.inline == ""
    attributes = {key for _, found in tags.found for key in found}
    assert not {key for key in attributes if key == "style" or key.startswith("on")}
    script = client.get("/page.js").text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", script)


def test_every_field_has_a_label_and_every_id_is_there_once(client: TestClient) -> None:
    text = client.get("/").text
    tags = Tags(text)
    ids = [str(found["id"]) for _, found in tags.found if "id" in found]
    assert len(ids) == len(set(ids))
    labelled = {found["for"] for tag, found in tags.found if tag == "label" and "for" in found}
    wrapped = set(re.findall(r"<label[^>]*>[^<]*<\w+ (?:id|name)=\"(\w+)\"", text))
    fields = [found for tag, found in tags.found if tag in ("input", "textarea", "select")]
    assert all({found.get("id"), found.get("name")} & (labelled | wrapped) for found in fields)
    used = set(re.findall(r'byId\("([\w-]+)"\)', client.get("/page.js").text))
    assert used <= set(ids)


def test_it_is_no_part_of_the_api(client: TestClient) -> None:
    assert client.get("/openapi.json").json()["paths"] == {}
