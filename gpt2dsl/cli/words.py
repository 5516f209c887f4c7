"""Translation of recipe keys in error messages to options and arguments of the command."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import attrs
import click

from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.parts import TABLES, TASKS, owners, trainer

_KEY = re.compile(r"\b(?:task|model|data|generation)\.(\w+)\b")

_VALUE = re.compile(r'(--[\w-]+) = "?([\w.-]+)"?')
"""Matches an option that has replaced a key, followed by a value in a recipe's syntax."""

_OTHERWISE = {
    "layout": "to", "source_layout": "from", "source_strategy": "strategy", "weights": "base",
    "prompts": "prompt", "texts": "text", "format": "form",
}  # fmt: skip
"""Key → name of its option, where they differ."""


def program() -> str:
    """Return the command that runs this program: ``gpt2dsl`` if the shell finds it."""
    name = sys.argv[0]
    if Path(name).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m gpt2dsl"
    on_path = shutil.which("gpt2dsl")
    if (on_path and os.path.realpath(on_path) == os.path.realpath(name)) or os.sep not in name:
        return "gpt2dsl"
    return shlex.quote(name)


def as_called(text: str) -> str:
    """Replace ``gpt2dsl`` in the commands of a text by the command that the user ran."""
    from gpt2dsl.cli.main import COMMANDS  # noqa: PLC0415  # which imports this module

    command = rf"(?<![\w./-])(?<!-m )gpt2dsl (?=({'|'.join(COMMANDS)})\b)"
    return re.sub(command, lambda _: f"{program()} ", text)


def translated(error: SpecError, command: click.Command) -> SpecError:
    """Return an error with keys replaced by the command's options and arguments, if any.

    Commands that take a recipe keep the keys, since the user wrote them.
    """
    words = {param.name: _of(param) for param in command.params if param.name}
    if {"spec", "specs"} & words.keys():
        return error
    faults = [_translated(fault, words) for fault in error.faults]
    return error.of(faults)


_OF_A_FILE = ("--file", "--input", "--prompts", "--texts")
"""Options with which other programs or commands read texts from a file."""


def suggested(error: click.NoSuchOption) -> click.UsageError:
    """Return the error of an unknown option, with a suggestion.

    It suggests ``--set KEY=VALUE``, the option that reads a file of texts, or else an option with
    a similar spelling.
    """
    params = error.ctx.command.params if error.ctx else []
    options = {param.name: _of(param) for param in params if isinstance(param, click.Option)}
    if "settings" in options and (keys := _keys(error.option_name)):
        value = shlex.quote(_value(error.option_name))
        hint = " or ".join(f"--set {key}={value}" for key in keys)
        return click.UsageError(f"{error.message} It is {hint}.", error.ctx)
    if "file" in options and error.option_name in _OF_A_FILE:
        hint = f"A file with a text per line is {options['file']} FILE."
        return click.UsageError(f"{error.message} {hint}", error.ctx)
    return error


def _keys(option: str) -> list[str]:
    """Return the recipe keys that an option names, also by a TrainingArguments name."""
    table, _, name = option.lstrip("-").replace("-", "_").rpartition(".")
    tables = [part.table for part in owners(name)]
    tables += ["task"] if any(name in task.rules() for task in TASKS.values()) else []
    keys = [f"{owner}.{name}" for owner in tables]
    keys = keys or [f"{owner}.{key}" for owner in TABLES if (key := trainer.field(name, owner))]
    return [key for key in keys if key.startswith(f"{table}." if table else "")]


def _value(option: str) -> str:
    """Return the value typed for an unknown option, or the placeholder VALUE."""
    for word, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option and following and not following.startswith("--"):
            return following
    return "VALUE"


def _of(param: click.Parameter) -> str:
    """Return a parameter as it is written on the command line."""
    if isinstance(param, click.Argument):
        return param.metavar or (param.name or "").upper()
    return max(param.opts, key=len)


def _translated(fault: Fault, words: dict[str, str]) -> Fault:
    def word(match: re.Match[str]) -> str:
        if fault.origin == f"--{match[1].replace('_', '-')}":
            return fault.origin  # the user typed --prompts FILE, not --prompt TEXT
        return words.get(match[1]) or words.get(_OTHERWISE.get(match[1], "")) or match[0]

    def option(match: re.Match[str]) -> str:
        # keep a positional argument's key: the message may refer to another command
        return typed if (typed := word(match)).startswith("-") else match[0]

    key, message = _KEY.sub(word, fault.key), _KEY.sub(option, fault.message)
    message = _VALUE.sub(_as_typed, message)
    for name, shown in words.items():
        message = re.sub(rf'(?<![-\w]){name} = "([^"]*)"', rf"{shown} \1", message)
    key = re.sub(" = (True|False)$", "", key)  # flags have no value
    if key == fault.key:
        return attrs.evolve(fault, message=message)
    return attrs.evolve(fault, origin="", key=key, message=message)


def _as_typed(match: re.Match[str]) -> str:
    """Return an option and its value in command-line syntax; flags have no value."""
    option, value = match[1], match[2]
    if value in ("true", "false"):
        return option if value == "true" else f"--no-{option[2:]}"
    return f"{option} {value}"
