"""Diagnosis of the machine, with remedies; without MindSpore."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import attrs
from packaging.requirements import Requirement

from gpt2dsl import extras
from gpt2dsl.files import cache
from gpt2dsl.lite import setup

GOOD, MISSING, WRONG = "ok", "not here", "wrong"

EXTRAS = {
    "torch": "reads .bin files",
    "onnx": "exports ONNX and .ms, and runs ONNX",
    "serve": "gpt2dsl serve",
    "tensorboard": "runtime.tensorboard",
}
"""Extra of the package → features that need it."""

ROOM = 20e9
"""Free disk space in bytes below which checkpoints of medium models do not fit."""


@attrs.frozen
class Finding:
    """The result of one check, with its remedy, ``mend``, if one is needed.

    Its state is ok; not here, if optional; or wrong, if runs will fail.
    """

    what: str
    state: str
    detail: str
    mend: str = ""


def examine() -> list[Finding]:
    return [*_packages(), *_extras(), _lite(), _devices(), _memory(), *_disks()]


def _packages() -> Iterator[Finding]:
    version = platform.python_version()
    good = sys.version_info >= (3, 10)
    yield Finding("Python", GOOD if good else WRONG, version, "" if good else "3.10 or newer")
    for text in metadata.requires("gpt2dsl") or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        installed = _version(requirement.name)
        if installed and requirement.specifier.contains(installed, prereleases=True):
            if requirement.name in ("mindspore", "numpy"):
                yield Finding(requirement.name, GOOD, installed)
            continue
        state = (
            f"{installed}, and {requirement.specifier} is needed" if installed else "not installed"
        )
        yield Finding(requirement.name, WRONG, state, f"pip install '{text.partition(';')[0]}'")


def _extras() -> Iterator[Finding]:
    for extra, use in EXTRAS.items():
        names = [
            Requirement(text).name
            for text in metadata.requires("gpt2dsl") or ()
            if f'extra == "{extra}"' in text
        ]
        lacking = [name for name in names if not _version(name)]
        if lacking:
            lacks = f"{', '.join(lacking)}: {use}"
            yield Finding(extra, MISSING, lacks, extras.install(extra))
        else:
            versions = ", ".join(f"{name} {_version(name)}" for name in names)
            yield Finding(extra, GOOD, f"{versions}: {use}")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _lite() -> Finding:
    installation = setup.find()
    if installation is None:
        return Finding("MindSpore Lite", MISSING, "runs exports as .ms", setup.SETUP)
    return Finding("MindSpore Lite", GOOD, f"{setup.VERSION} in {installation.python}")


def _devices() -> Finding:
    ascend = sorted(Path("/dev").glob("davinci[0-9]*"))
    words = f"{os.cpu_count()} processor cores"
    return Finding("devices", GOOD, f"{words}, {len(ascend)} Ascend" if ascend else words)


def _memory() -> Finding:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return Finding("memory", GOOD, "not known here")
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if "kB" in line}
    free, total = sizes.get("MemAvailable", 0), sizes.get("MemTotal", 0)
    return Finding("memory", GOOD, f"{free / 1e9:.1f} of {total / 1e9:.1f} GB are free")


def _disks() -> Iterator[Finding]:
    for what, folder in (("working folder", Path.cwd()), ("cache", cache.folder(""))):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        words = f"{folder}: {free / 1e9:.1f} GB are free"
        if not os.access(existing, os.W_OK):
            mend = "GPT2DSL_CACHE names another" if what == "cache" else "work elsewhere"
            yield Finding(what, WRONG, f"{folder} can't be written", mend)
        elif free < ROOM:
            yield Finding(what, MISSING, words, "checkpoints of the larger sizes need more")
        else:
            yield Finding(what, GOOD, words)
