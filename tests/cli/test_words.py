"""Errors of commands name what was typed; those of recipes the keys that were written."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import gpt2dsl
from gpt2dsl.cli import convert, generate, lite, reshard, run
from gpt2dsl.cli.main import COMMANDS
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


SHARED = ("data", "engine", "files", "identity", "lite", "plan", "serve", "weights")
"""Packages whose messages reach several commands, recipes and Python."""

OF_ONE_COMMAND = {
    "lite/setup.py": "lite.setup",
    "serve/settings.py": "serve",
    "serve/server.py": "serve",
    "engine/prepare.py": "data.prepare",
    "engine/report.py": "generate",
}
"""Module whose messages one command alone prints → the command."""

ALSO_FOR_RECIPES = {
    "--max-stops": "task.max_stops",
    "--batch": "task.batch",
    "--queue": "task.queue",
    "--max-body": "task.max_body",
    "--template": "task.template",
    "--allowed-host": "task.allowed_hosts",
}
"""Options of serve in answers of a server, which name the key of a recipe beside them."""

OF_PYTHON = {"--set": ".set("}

WITH_NETWORK = ("convert", "export", "reshard", "inspect", "generate", "classify", "serve")
WITH_TOKENIZER = ("generate", "classify", "serve", "lite.run", "data.prepare")
REACHED = {
    "model.heads": WITH_NETWORK,
    "model.size": WITH_NETWORK,
    "data.tokenizer": WITH_TOKENIZER,
    "task.source_strategy": ("reshard",),
    "data.text_column": ("data.prepare", "tokenizer.train"),
    "data.label_column": ("data.prepare",),
    "data.header": ("data.prepare", "tokenizer.train"),
    "data.quotes": ("data.prepare", "tokenizer.train"),
    "data.format": ("data.prepare", "tokenizer.train"),
    "data.max_bad_rows": ("data.prepare", "tokenizer.train"),
}
"""Key that a message of weights or data names → commands without a recipe that can print it."""


def _command(name: str) -> click.Command:
    first, _, second = name.partition(".")
    command: click.Command = importlib.import_module(f"gpt2dsl.cli.{first}").command
    return command.commands[second] if isinstance(command, click.Group) else command


def _options(command: click.Command) -> set[str]:
    return {word for param in command.params for word in (*param.opts, *param.secondary_opts)}


def _messages(*packages: str) -> Iterator[tuple[str, str]]:
    """Every literal text of these packages but docstrings, with its module."""
    root = Path(gpt2dsl.__file__).parent
    for path in sorted(path for name in packages for path in (root / name).rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inner = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in ast.walk(node)
            if part is not node
        }
        for node in ast.walk(tree):
            if id(node) in bare | inner:
                continue
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value for part in parts if isinstance(part, ast.Constant)]
            if text := "{}".join(text for text in texts if isinstance(text, str)):
                yield path.relative_to(root).as_posix(), text


def _exists(option: str, text: str, named: str | None) -> bool:
    """Whether a message says where an option exists, and it exists there."""
    if option in OF_PYTHON:
        return OF_PYTHON[option] in text
    if option in ALSO_FOR_RECIPES:
        return ALSO_FOR_RECIPES[option] in text and option in _options(_command("serve"))
    return named is not None and option in _options(_command(named))


def test_options_in_shared_messages_come_with_the_command_that_has_them() -> None:
    seen, wrong = set(), []
    for module, text in _messages(*SHARED):
        if " " not in text or "\n" in text:  # a word of a command that is run, a page
            continue
        named: str | None = OF_ONE_COMMAND.get(module)
        words = re.findall(r"--[a-z][\w-]*|\bdata prepare\b|\b[a-z]+\b", text)
        for word in words:
            if word == "data prepare":
                named = "data.prepare"
            elif word in COMMANDS and not isinstance(_command_of(word), click.Group):
                named = word
            elif word.startswith("--"):
                seen.add(word)
                if not _exists(word, text, named):
                    wrong.append((module, word, text))
    assert not wrong
    assert seen >= {"--base", "--strategy", "--from", "--merge", "--max-stops", "--python"}


def _command_of(name: str) -> click.Command:
    command: click.Command = importlib.import_module(f"gpt2dsl.cli.{name}").command
    return command


@pytest.mark.parametrize("key", REACHED)
def test_keys_in_shared_messages_are_options_of_the_commands_that_print_them(key: str) -> None:
    error = InputError("G2-307", "a.ckpt", f"say {key}")
    for name in REACHED[key]:
        command = _command(name)
        (fault,) = translated(error, command).faults
        assert fault.message.removeprefix("say ") in _options(command), name


def test_the_keys_that_messages_of_weights_and_data_name_are_all_in_the_table() -> None:
    found = {
        key
        for module, text in _messages("weights", "data")
        if " " in text and not module.endswith("weights/hub.py")
        for key in re.findall(r"(?<![\w.])(?:task|model|data)\.[a-z_]+\b(?!\.)", text)
    }
    assert found - {"model.safetensors", "model.resize_token_embeddings"} <= REACHED.keys() | {
        "model.model_config"
    }
    assert {"model.heads", "data.tokenizer"} <= found


def test_exports_take_the_options_of_generate_but_those_of_a_network() -> None:
    network = {"weights", "--size", "--heads", "--activation"}
    assert _options(generate.command) - network <= _options(lite.run)
