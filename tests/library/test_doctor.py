from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from gpt2dsl import extras
from gpt2dsl.library import doctor
from gpt2dsl.library.doctor import GOOD, MISSING, WRONG, Finding


def found() -> dict[str, Finding]:
    return {one.what: one for one in doctor.examine()}


def test_this_machine_is_ready() -> None:
    seen = found()
    assert {one.state for one in seen.values()} <= {GOOD, MISSING}
    assert seen["mindspore"].detail == "2.10.0"
    assert "processor cores" in seen["devices"].detail
    assert all(one.mend for one in seen.values() if one.state != GOOD)


def test_what_is_missing_or_of_another_version_has_its_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name in ("onnx", "onnxruntime", "regex"):
            raise metadata.PackageNotFoundError(name)
        return "2.2.0" if name == "mindspore" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    seen = found()
    assert seen["onnx"] == Finding(
        "onnx", MISSING, "onnx, onnxruntime: exports ONNX and .ms, and runs ONNX",
        extras.install("onnx"),
    )  # fmt: skip
    assert seen["regex"].state == WRONG
    assert seen["mindspore"].detail == "2.2.0, and ==2.10.0 is needed"
    assert seen["mindspore"].mend == "pip install 'mindspore==2.10.0'"


def test_folders_that_are_full_or_can_not_be_written_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    assert found()["cache"].state == MISSING
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert found()["cache"] == Finding(
        "cache", WRONG, found()["cache"].detail, "GPT2DSL_CACHE names another"
    )


def test_the_command_prints_a_table_or_json_without_mindspore() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "gpt2dsl", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("what ")
    assert "| mindspore\n" not in done.stderr
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert {"what", "state", "detail", "mend"} == set(json.loads(done.stdout)[0])
