"""MindFormers' command lines: run_mindformer.py and run_distribute.sh."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml

from gpt2dsl.errors import Fault, SpecError, did_you_mean
from gpt2dsl.spec.mindformers import document
from gpt2dsl.spec.mindformers.document import ConfigEntry

FLAGS = {
    "run_mode": "run_mode",
    "mode": "context.mode",
    "device_id": "context.device_id",
    "device_target": "context.device_target",
    "do_eval": "do_eval",
    "train_dataset_dir": "train_dataset.data_loader.dataset_dir",
    "eval_dataset_dir": "eval_dataset.data_loader.dataset_dir",
    "predict_data": "predict_data",
    "load_checkpoint": "load_checkpoint",
    "src_strategy_path_or_dir": "src_strategy_path_or_dir",
    "auto_trans_ckpt": "auto_trans_ckpt",
    "only_save_strategy": "only_save_strategy",
    "resume_training": "resume_training",
    "remote_save_url": "remote_save_url",
    "seed": "seed",
    "use_parallel": "use_parallel",
    "profile": "profile",
    "epochs": "runner_config.epochs",
    "batch_size": "runner_config.batch_size",
    "sink_mode": "runner_config.sink_mode",
}
"""Flags of run_mindformer.py → keys of its YAML; dotted flags are keys themselves."""

_RANGE = re.compile(r"\[(\d+),(\d+)\]?")
_LAUNCHERS = ("run_distribute.sh", "run_standalone.sh")


@attrs.frozen
class Command:
    """Entries of the YAML, then of the command line, and the job's devices, None if unknown."""

    entries: list[ConfigEntry]
    devices: int | None = None


def read(text: str, folder: Path | None = None) -> Command:
    """Return the content of a command line and of the YAML that it names, relative to ``folder``.

    Raises:
        SpecError: it runs neither program (G2-001), an argument is wrong (G2-101, G2-103), or the
            YAML is unreadable.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _wrong("G2-001", "", f"not a command line: {error}") from error
    for i, word in enumerate(words):
        name = Path(word).name
        if name == "run_mindformer.py":
            return _run_mindformer(words[i + 1 :], folder or Path())
        if name in _LAUNCHERS:
            return _launched(name, words[i + 1 :], folder or Path())
    raise _wrong("G2-001", "", "expected run_mindformer.py or run_distribute.sh in it")


def _run_mindformer(words: Sequence[str], folder: Path) -> Command:
    config, flags = "", []
    pending = list(words)
    while pending:
        flag = pending.pop(0)
        if not flag.startswith("--"):
            raise _wrong("G2-101", flag, "expected a flag, --name value")
        name, equals, value = flag[2:].partition("=")
        if not equals:
            if not pending or pending[0].startswith("--"):
                raise _wrong("G2-103", flag, "its value is missing")
            value = pending.pop(0)
        if name == "config":
            config = value
        elif name in FLAGS or "." in name:
            flags.append(ConfigEntry(FLAGS.get(name, name), _value(value), f"--{name}"))
        else:
            hint = did_you_mean(name, (*FLAGS, "config"))
            raise _wrong("G2-101", f"--{name}", f"run_mindformer.py has no such flag{hint}")
    return Command([*_yaml(config, "--config", folder), *flags])


def _launched(name: str, words: Sequence[str], folder: Path) -> Command:
    """Return the content of a launcher's arguments.

    They are RANK_TABLE CONFIG [start,end] STATUS [RANK_SIZE] [PREDICT_DATA] of run_distribute.sh,
    and CONFIG DEVICE_ID STATUS of run_standalone.sh.
    """
    if name != "run_distribute.sh":
        if len(words) < 3:
            raise _wrong("G2-103", name, "expected CONFIG DEVICE_ID STATUS")
        flags = [
            ConfigEntry("use_parallel", False, name),
            ConfigEntry("run_mode", words[2], "STATUS"),
        ]
        return Command([*_yaml(words[0], "CONFIG", folder), *flags])
    if len(words) < 4:
        raise _wrong("G2-103", name, "expected RANK_TABLE CONFIG [start,end] STATUS")
    table, config, devices, status, *optional = words
    match = _RANGE.fullmatch(devices)
    if not match or int(match[2]) <= int(match[1]):
        raise _wrong("G2-202", "DEVICE_RANGE", f"expected [0,8], found {devices!r}")
    count = int(match[2]) - int(match[1])
    flags = [
        ConfigEntry("use_parallel", True, name),
        ConfigEntry("run_mode", status, "STATUS"),
        ConfigEntry("rank_table", table, "RANK_TABLE"),
    ]
    if optional and optional[0].isdecimal():
        count = int(optional.pop(0))
    if optional:
        flags.append(ConfigEntry("predict_data", [optional[0]], "PREDICT_DATA"))
    return Command([*_yaml(config, "CONFIG", folder), *flags], count)


def _yaml(name: str, where: str, folder: Path) -> list[ConfigEntry]:
    if not name:
        raise _wrong("G2-103", where, "missing; the YAML has the rest")
    return document.read(folder / name)


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _wrong(code: str, key: str, message: str) -> SpecError:
    return SpecError([Fault(code, "command line", key, message)])
