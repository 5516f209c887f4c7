"""Location and installation of MindSpore Lite, in this Python or a separate one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs

from gpt2dsl.errors import InputError, RunError
from gpt2dsl.files import atomic, cache

VERSION = "2.0.0"
PYTHON = "python3.7"
"""PyPI has mindspore-lite 2.0.0 only for CPython 3.7."""

SETUP = "gpt2dsl lite setup"
_COMPLETE = "complete"
"""Marker file of a complete environment, written last."""


@attrs.frozen
class LiteInstallation:
    """The interpreter that has Lite, and whether it is that of this process."""

    python: Path
    is_own: bool


def environment() -> Path:
    """Return the path of the environment that ``set_up`` creates."""
    return cache.folder("lite") / f"mindspore-lite-{VERSION}"


def find() -> LiteInstallation | None:
    """Return the installation of Lite; None if there is none."""
    if importlib.util.find_spec("mindspore_lite"):
        return LiteInstallation(Path(sys.executable), is_own=True)
    return LiteInstallation(_interpreter(), is_own=False) if _is_complete() else None


def require() -> LiteInstallation:
    """Return the installation of Lite.

    Raises:
        InputError: Lite is not installed (G2-531).
    """
    installation = find()
    if installation is None:
        message = f"it is not in this Python, nor set up beside it: {SETUP}"
        raise InputError("G2-531", "mindspore_lite", message)
    return installation


def set_up(python: str = "") -> Path:
    """Create the environment with mindspore-lite, unless it exists, and return it.

    ``python`` is a Python 3.7; "" for the one on PATH or under ~/.pyenv.

    Raises:
        InputError: there is no such Python (G2-531).
        RunError: the package can't be installed.
    """
    final = environment()
    if _is_complete():
        return final
    interpreter = _python(python)
    atomic.remove(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        # created in place rather than renamed: environments contain their own path
        _run([interpreter, "-m", "venv", str(final)], "it can't be made")
        pip = [str(final / "bin" / "python"), "-m", "pip", "install", "-q"]
        pip += ["--disable-pip-version-check", f"mindspore-lite=={VERSION}"]
        _run(pip, f"mindspore-lite {VERSION} can't be installed")
        check = [str(final / "bin" / "python"), "-c", "import mindspore_lite, numpy"]
        _run(check, "mindspore-lite was installed and can't be imported")
        (final / _COMPLETE).touch()
    except BaseException:
        atomic.remove(final)
        raise
    return final


def _interpreter() -> Path:
    return environment() / "bin" / "python"


def _is_complete() -> bool:
    return (environment() / _COMPLETE).exists() and _interpreter().exists()


def _python(named: str) -> str:
    """Return a working Python 3.7; the one on PATH may be a pyenv shim without that version."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob("3.7*/bin/python3.7"))
    candidates = [named] if named else [PYTHON, *map(str, pyenv)]
    for candidate in candidates:
        path = shutil.which(candidate)
        code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
        process = path and subprocess.run(  # noqa: S603  # the user's Python
            [path, "-c", code], capture_output=True, text=True, check=False
        )
        if path and process and process.returncode == 0:
            if process.stdout.strip() == "3.7":
                return path
            if named:
                message = f"expected Python 3.7, found {process.stdout.strip()}"
                raise InputError("G2-531", named, message)
    if named:
        raise InputError("G2-531", named, "there is no such Python")
    message = f"MindSpore Lite {VERSION} needs it, and it is neither on PATH nor under ~/.pyenv"
    raise InputError("G2-531", PYTHON, f"{message}; --python PATH names one")


def _run(command: list[str], problem: str) -> None:
    process = subprocess.run(  # noqa: S603  # pip, in an environment of our own
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""}
    )
    if process.returncode:
        lines = [line for line in process.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "ERROR" in line), (lines or ["?"])[-1])
        raise RunError("G2-531", f"{environment()}: {problem}: {reason.strip()}")
