from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import run
from tests.cluster.rank_tables import ONE, TWO, apart, card, conf, saved
from tests.commands import imported


@pytest.fixture(autouse=True)
def no_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)


def generate(*words: str) -> int:
    return run("ranktable", "generate", "--hccn-conf", "hccn.conf", *words)


def test_generate_writes_the_cards_table_to_stdout_or_a_file(capsys: Any, elsewhere: Path) -> None:
    conf(elsewhere)
    assert generate("--devices", "0-7", "--server-ip", "10.0.0.1") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == card(ONE, "10.0.0.1")
    assert not err
    assert generate("--server-ip", "10.0.0.1", "--out", "a/b.json") == 0
    assert capsys.readouterr() == ("", "1 server, 8 ranks   a/b.json\n")
    assert (elsewhere / "a/b.json").read_text() == out


def test_generate_refuses_the_interval_of_mindformers_with_a_hint(
    capsys: Any, elsewhere: Path
) -> None:
    conf(elsewhere)
    assert generate("--devices", "[0,8)", "--server-ip", "10.0.0.1") == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("--devices [0,8): that is MindFormers' interval")
    assert "here it is 0-7" in err


def test_merge_writes_one_table_and_says_how_large_it_is(capsys: Any, elsewhere: Path) -> None:
    first, second = apart(card(TWO, "10.0.0.1", "10.0.0.2"))
    for device in second["server_list"][0]["device"]:
        device["device_ip"] = device["device_ip"].replace("192", "193")
    saved(elsewhere, first, second)
    assert run("ranktable", "merge", "b.json", "a.json", "--out", "all.json") == 0
    assert capsys.readouterr() == ("", "2 servers, 16 ranks   all.json\n")
    merged = json.loads((elsewhere / "all.json").read_text())
    assert [server["server_id"] for server in merged["server_list"]] == ["10.0.0.1", "10.0.0.2"]
    assert run("ranktable", "merge", "a.json", "--out", "all.json") == 2
    assert capsys.readouterr().err == "all.json: it is there already [G2-308]\n"
    assert json.loads((elsewhere / "all.json").read_text()) == merged


def test_merge_reports_the_cards_fault_and_writes_nothing(capsys: Any, elsewhere: Path) -> None:
    saved(elsewhere, *apart(card(TWO)))
    assert run("ranktable", "merge", "a.json", "b.json", "--out", "all.json") == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines()[-1] == "5 faults"
    assert "xx.xx.xx.xx" in err
    assert "192.168.0.1" in err
    assert not (elsewhere / "all.json").exists()


def test_a_target_that_cannot_be_written_is_one_line(capsys: Any, elsewhere: Path) -> None:
    saved(elsewhere, card(ONE, "10.0.0.1"))
    assert run("ranktable", "merge", "a.json", "--out", "a.json/x.json") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("a.json/x.json: it can't be written: ")


def test_rank_tables_never_import_mindspore_or_torch(elsewhere: Path) -> None:
    saved(elsewhere, card(ONE, "10.0.0.1"))
    words = ["ranktable", "merge", "a.json", "--out", "b.json"]
    assert imported(words, {"mindspore", "torch", "transformers", "numpy"}) == (0, set())
