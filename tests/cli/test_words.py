"""Errors of commands name what was typed; those of recipes the keys that were written."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

from gpt2dsl.cli import convert, generate, reshard, run
from gpt2dsl.cli.tokenizer import train
from gpt2dsl.cli.words import as_called, translated
from gpt2dsl.errors import Fault, InputError, SpecError


def test_commands_in_messages_begin_as_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "my bin" / "gpt2dsl"
    program.parent.mkdir()
    program.touch(mode=0o755)
    text = "go on with: gpt2dsl run a.toml; gpt2dsl is src/gpt2dsl here"
    for called, words in [
        (program, f"'{program}'"),
        ("/a/gpt2dsl/__main__.py", f"{sys.executable} -m gpt2dsl"),
        ("gpt2dsl", "gpt2dsl"),
    ]:
        monkeypatch.setattr("sys.argv", [str(called)])
        assert as_called(text) == text.replace("gpt2dsl run", f"{words} run")
        assert as_called(as_called(text)) == as_called(text)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", str(program.parent))
    assert as_called(text) == text


@pytest.mark.parametrize(
    ("command", "fault", "words"),
    [
        (
            convert.command,
            Fault("G2-107", "SRC", "task.merge = False", 'merge adds it; to = "peft" keeps it'),
            "--merge: merge adds it; --to peft keeps it [G2-107]",
        ),
        (
            convert.command,
            Fault("G2-301", "SRC", "task.source = a b", "no such file"),
            "SRC = a b: no such file [G2-301]",
        ),
        (
            generate.command,
            Fault("G2-202", "--temperature", "generation.temperature", "expected more"),
            "--temperature: expected more [G2-202]",
        ),
        (
            generate.command,
            Fault("G2-107", "--prompt", "task.prompts = x", "see generation.top_k"),
            "--prompt = x: see --top-k [G2-107]",
        ),
        (
            generate.command,
            Fault("G2-310", "--prompts", "task.prompts = x.csv", "no plain text"),
            "--prompts = x.csv: no plain text [G2-310]",
        ),
        (
            train,
            Fault(
                "G2-304",
                "",
                "x.csv",
                'data.header = false, data.format = "tsv", data.quotes = true, '
                "data.max_bad_rows = 3, and data.text_column as a number",
            ),
            "x.csv: --no-header, --format tsv, --quotes, --max-bad-rows 3, and --text-column as a "
            "number [G2-304]",
        ),
        (
            convert.command,
            Fault("G2-201", "", "optim.lr", "no option has it"),
            "optim.lr: no option has it [G2-201]",
        ),
        (
            reshard.command,
            Fault("G2-203", "--to", "task.layout = dp=3", "see task.source_layout, model.weights"),
            "--to = dp=3: see --from, model.weights [G2-203]",
        ),
        (
            run.command,
            Fault("G2-301", "a.toml:3", "task.source = a", "no such file"),
            "a.toml:3  task.source = a: no such file [G2-301]",
        ),
    ],
)
def test_keys_become_the_options_of_the_command(
    command: click.Command, fault: Fault, words: str
) -> None:
    assert str(translated(SpecError([fault]), command)) == words


def test_the_kind_of_error_stays() -> None:
    error = InputError("G2-301", "a/b", "no such file")
    assert isinstance(translated(error, convert.command), InputError)
    assert str(translated(error, convert.command)) == str(error)
