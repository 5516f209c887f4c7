from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Parallel, Recipe
from gpt2dsl.cluster.supervisor import free_port
from tests.cli.test_cli import run
from tests.cluster.jobs import marked
from tests.cluster.rank_tables import TWO, card, saved
from tests.commands import imported
from tests.engine.conftest import small_recipe

CARD = ("parallel.dp=12", "train.batch_size=96")
"""What makes 96 ranks of gpt2-13b-pretrain, on the 12 hosts of 8 devices of MindFormers' card."""


@pytest.fixture
def twelve(elsewhere: Path) -> Path:
    file = elsewhere / "hosts"
    file.write_text("".join(f"192.168.0.{i}\n" for i in range(12)))
    return file


def test_dry_run_on_the_cards_twelve_hosts(capsys: Any, twelve: Path) -> None:
    settings = [word for setting in CARD for word in ("--set", setting)]
    words = ["launch", "gpt2-13b-pretrain", "--hosts", str(twelve), "--dry-run", *settings]
    assert imported(words, {"mindspore", "torch", "transformers"}) == (0, set())
    assert run(*words) == 0
    out, err = capsys.readouterr()
    commands = out.splitlines()
    assert err.startswith("launch would refuse: ")  # the data is not here
    assert len(commands) == 12
    for place in (0, 1, 11):
        assert commands[place] == (
            f"ssh 192.168.0.{place} 'cd {twelve.parent} && gpt2dsl run gpt2-13b-pretrain "
            "--set parallel.dp=12 --set train.batch_size=96 "
            f"--node {place * 8}:8@192.168.0.0:28118'"
        )


def test_options_are_in_every_command(capsys: Any, twelve: Path) -> None:
    twelve.write_text("me@a devices=16\nb devices=16\n")
    assert run(
        "launch", "gpt2-13b-pretrain", "--hosts", "hosts", "--dry-run", "--port", "5",
        "--ssh", "ssh -p 22", "--master", "10.0.0.1", "--command", "env X=1 gpt2dsl",
        "--directory", "/",
    ) == 0  # fmt: skip
    assert capsys.readouterr().out.splitlines()[0] == (
        "ssh -p 22 me@a 'cd / && env X=1 gpt2dsl run gpt2-13b-pretrain --node 0:16@10.0.0.1:5'"
    )


def test_what_does_not_fit_is_refused_before_anything_starts(capsys: Any, twelve: Path) -> None:
    def refused(spec: str, *words: str) -> str:
        assert run("launch", spec, "--hosts", str(twelve), "--ssh", "false", *words) == 2
        return str(capsys.readouterr().err)

    assert "96 devices on 12 hosts, the recipe has dp x mp x pp = 32 [G2-522]" in refused(
        "gpt2-13b-pretrain", "--dry-run"
    )
    assert "one rank needs no other machine: gpt2dsl run" in refused("quickstart")
    settings = (word for setting in CARD for word in ("--set", setting))
    assert "task.data = wiki.train.tokens: there is no" in refused("gpt2-13b-pretrain", *settings)
    assert "none.toml" in refused("none.toml")


def test_hosts_are_held_against_the_rank_table(capsys: Any, twelve: Path) -> None:
    table = card(TWO, "10.0.0.1", "10.0.0.2")
    for device in table["server_list"][1]["device"]:
        device["device_ip"] = device["device_ip"].replace("192", "193")
    (path,) = saved(twelve.parent, table)
    words = [
        "launch", "gpt2-13b-pretrain", "--hosts", "hosts", "--dry-run",
        "--set", "parallel.dp=2", "--set", f"runtime.rank_table={path}",
    ]  # fmt: skip
    twelve.write_text("10.0.0.1\n10.0.0.2\n")
    assert run(*words) == 0
    assert "--node 8:8@10.0.0.1:28118" in capsys.readouterr().out
    twelve.write_text("10.0.0.2\n10.0.0.1\n")
    assert run(*words) == 2
    assert "hosts:1  10.0.0.2  expected 10.0.0.1: hosts are in" in capsys.readouterr().err


@pytest.fixture
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GPT2DSL_TEST_MARK", str(tmp_path))
    yield
    assert marked(str(tmp_path).encode()) == [], "a process is left"


def started(folder: Path, recipe: Recipe) -> subprocess.Popen[str]:
    """Two hosts on loopback, whose ssh is a script that leaves the process's id in a file."""
    (folder / "job.toml").write_text((recipe | Parallel(dp=2)).to_toml())
    (folder / "hosts").write_text("localhost devices=1\n127.0.0.1 devices=1\n")
    ssh = folder / "ssh"
    ssh.write_text('#!/bin/sh\necho $$ >"$1.pid"\nshift\nexec sh -c "$*"\n')
    ssh.chmod(0o755)
    own = [sys.executable, "-m", "gpt2dsl"]
    return subprocess.Popen(
        [
            *own, "launch", "job.toml", "--hosts", "hosts", "--ssh", str(ssh),
            "--port", str(free_port()), "--command", f"exec {shlex.join(own)}",
        ],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.usefixtures("nothing_left")
def test_two_hosts_on_loopback_run_a_job(tmp_path: Path) -> None:
    out, err = started(tmp_path, small_recipe(tmp_path)).communicate()
    assert "perplexity  " in out, err
    assert "checkpoint  " in out
    assert err.count("2 ranks = dp 2 x mp 1 x pp 1") == 1
    (ranks,) = tmp_path.glob("runs/*/ranks")
    assert {path.name for path in ranks.glob("logs/*")} == {
        "rank_0.log", "rank_1.log", "scheduler.log",
    }  # fmt: skip


@pytest.mark.usefixtures("nothing_left")
def test_a_host_that_is_killed_ends_the_others(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path).override(
        {"train.steps": (10_000, ""), "train.evaluate_every": (0, ""), "train.save_every": (0, "")}
    )
    with started(tmp_path, recipe) as launcher:
        while not list(tmp_path.glob("runs/*/metrics.jsonl")):
            assert launcher.poll() is None, launcher.communicate()
            time.sleep(0.2)
        os.kill(int((tmp_path / "127.0.0.1.pid").read_text()), signal.SIGKILL)
        killed = time.monotonic()
        _, err = launcher.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert launcher.returncode == 1
    assert "127.0.0.1 (rank 1): killed by SIGKILL" in err
    assert "[G2-523]" in err
