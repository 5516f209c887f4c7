from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.jobs import Job, marked


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    mark = str(tmp_path).encode()
    monkeypatch.setenv("GPT2DSL_TEST_MARK", str(tmp_path))
    yield Job(tmp_path)
    assert marked(mark) == [], "a process is left"
