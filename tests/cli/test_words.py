"""Errors of commands name what was typed; those of recipes the keys that were written."""

from __future__ import annotations

import click
import pytest

from gpt2dsl.cli import convert, generate, reshard, run
from gpt2dsl.cli.words import translated
from gpt2dsl.errors import Fault, InputError, SpecError


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
