"""Resolution of SPEC on the command line, and of ``extends`` in a spec."""

from __future__ import annotations

import ast
import importlib
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Protocol, runtime_checkable

import attrs

from gpt2dsl import library
from gpt2dsl.errors import Fault, SpecError, some
from gpt2dsl.parts.base import PACKAGE, caller
from gpt2dsl.spec import read
from gpt2dsl.spec.tables import ChainDrafts, RawConfig

_NAME = re.compile(r"[^/\x00-\x1f\x7f]*")
_MOST_BYTES = 240
"""Maximum size of a name in bytes: file systems allow 255, and a digest is appended."""

_UNTELLING = ("recipe", "chain")
"""Variable names too generic to name a run."""


@runtime_checkable
class Built(Protocol):
    """A recipe or a chain built in Python."""

    def draft(self) -> RawConfig | ChainDrafts:
        """Return its values with their origins."""


def find(spec: str) -> RawConfig | ChainDrafts:
    """Return the draft of a .toml file, of ``module:name``, or of a library recipe.

    Raises:
        SpecError: it does not exist or can't be read.
    """
    return _Finder().find(spec, "")


def recipe(spec: str) -> RawConfig:
    """Return the draft of a recipe, as ``find`` does.

    Raises:
        SpecError: as ``find``, or it is a chain.
    """
    return _require_recipe(find(spec), spec)


def find_text(text: str, name: str) -> RawConfig | ChainDrafts:
    """Return the draft of a spec's text; ``name`` is its file name in messages.

    Raises:
        SpecError: it is not TOML.
    """
    return read.read_text(text, name, _Finder())


def recipe_text(text: str, name: str) -> RawConfig:
    """Return the draft of a recipe's text, as ``find_text`` does.

    Raises:
        SpecError: as ``find_text``, or it is a chain.
    """
    return _require_recipe(find_text(text, name), name)


def name_of(spec: str) -> str:
    """Return the default name of runs of a spec.

    A variable named ``recipe`` or ``chain`` is too generic: the module's name is used instead.
    """
    if spec.endswith(".toml"):
        return Path(spec).stem
    module, _, variable = spec.rpartition(":")
    return module.rpartition(".")[2] if module and variable in _UNTELLING else variable


def modules_of(spec: str) -> list[ModuleType | None]:
    """Return the module of each stage of a spec, one for a recipe; None for a stage without one.

    The module of a file is that of the Python recipe that it extends.
    """
    if not spec.endswith(".toml"):
        return [_module(spec)]
    config = find(spec)
    drafts = [config] if isinstance(config, RawConfig) else config.drafts
    return [_module(draft.extends) if draft.extends else None for draft in drafts]


def _module(spec: str) -> ModuleType | None:
    if ":" in spec:
        return sys.modules.get(spec.partition(":")[0])
    return library.module(library.find(spec))


def checked_name(name: object) -> str:
    """Return the name of a recipe or a chain, if valid as a directory name.

    Raises:
        SpecError: no directory can have the name.
    """
    if (
        not isinstance(name, str)
        or not _NAME.fullmatch(name)
        or len(os.fsencode(name)) > _MOST_BYTES
    ):
        message = (
            "expected what a directory can be called, without slashes and line breaks, "
            f"at most {_MOST_BYTES} bytes, found {name!r}"
        )
        raise SpecError([Fault("G2-202", caller(), "name", message)])
    return name


def file_of(spec: str) -> str:
    """Return the file of a spec: ``mine.toml``, ``team.py:chain``."""
    if spec.endswith(".toml"):
        return spec
    module, _, name = (spec if ":" in spec else library.find(spec).target).partition(":")
    return f"{getattr(sys.modules.get(module), '__file__', None) or module}:{name}"


class _Finder:
    """A resolver of drafts by name that follows ``extends`` and refuses cycles."""

    def __init__(self) -> None:
        self._chain: list[str] = []

    def __call__(self, name: str, named_by: str) -> RawConfig:
        draft = _require_recipe(self.find(name, named_by), name)
        return draft if name.endswith(".toml") else attrs.evolve(draft, extends=name)

    def find(self, name: str, named_by: str) -> RawConfig | ChainDrafts:
        path = Path(name)
        if path.suffix == ".toml":
            sibling = Path(named_by).parent / path
            return self._once(sibling if sibling.exists() else path)
        if ":" in name:
            return _imported(name)
        try:
            return shared(library.find(name))
        except SpecError:
            if advice := _of_python(path):
                raise SpecError([Fault("G2-002", "", name, advice)]) from None
            raise

    def _once(self, path: Path) -> RawConfig | ChainDrafts:
        key = str(path.resolve())
        if key in self._chain:
            raise SpecError([Fault("G2-004", "", str(path), "leads back to itself")])
        self._chain.append(key)
        try:
            return read.read_file(path, str(path), self)
        finally:
            self._chain.remove(key)


def _of_python(path: Path) -> str:
    """Return a hint on how to name a recipe in a Python file; "" if no such file exists."""
    file = path if path.suffix == ".py" else Path(f"{path}.py")
    if not file.is_file():
        return ""
    if file.is_absolute() or ".." in file.parts:
        return f"{file} is Python: in its folder, name a recipe of it, {file.stem}:NAME"
    module = ".".join(file.with_suffix("").parts)
    try:
        statements = ast.parse(file.read_bytes()).body
    except (OSError, ValueError, SyntaxError):
        statements = []
    assigned = [
        statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        for statement in statements
        if isinstance(statement, ast.Assign | ast.AnnAssign)
    ]
    names = [target.id for target in assigned if isinstance(target, ast.Name)]
    return f"{file} is Python: name a recipe in it, {module}:{some(names) if names else 'NAME'}"


def _require_recipe(config: RawConfig | ChainDrafts, name: str) -> RawConfig:
    if isinstance(config, RawConfig):
        return config
    message = f"is a chain of {len(config.drafts)} stages, where one recipe is expected"
    raise SpecError([Fault("G2-108", "", name, message)])


def shared(entry: library.LibraryEntry) -> RawConfig | ChainDrafts:
    """Return the draft of a shared recipe, under its shared name.

    Raises:
        SpecError: its module can't be imported, or defines no recipe.
    """
    try:
        recipe = library.load(entry)
    except SpecError:
        raise
    except (Exception, SystemExit) as error:  # modules may raise anything
        raise _failed(entry.target, error) from error
    return attrs.evolve(_draft(recipe, entry.target, ""), name=entry.name)


def _imported(target: str) -> RawConfig | ChainDrafts:
    """Return the draft of the object ``module:name``.

    The working directory stays on ``sys.path``, as for ``python recipe.py``: a recipe's callbacks
    may import from it later.
    """
    module_name, _, attribute = target.partition(":")
    if sys.path[:1] != [here := str(Path.cwd())]:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
        member = getattr(module, attribute, _ABSENT)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise SpecError([Fault("G2-002", "", target, f"no module {module_name}")]) from None
        raise _failed(target, error) from error
    except SpecError:
        raise
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise _failed(target, error) from error
    known = [
        name
        for name, value in vars(module).items()
        if isinstance(value, Built) and not isinstance(value, type)
    ]
    return _draft(member, target, f"; it has {', '.join(known)}" if known else "")


_ABSENT = object()


def _draft(value: object, target: str, known: str) -> RawConfig | ChainDrafts:
    if isinstance(value, Built):
        return value.draft()
    what = "there is none of that name" if value is _ABSENT else f"found {value!r}"
    message = f"expected a Recipe, {what}{known}"
    raise SpecError([Fault("G2-002", "", target, message)])


def _failed(target: str, error: BaseException) -> SpecError:
    """Return a SpecError for an exception of a user's module, with its file and line."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", PACKAGE))
    ]
    origin = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, SyntaxError):
        origin = f"{Path(error.filename or target).name}:{error.lineno}"
    return SpecError([Fault("G2-002", origin, target, f"{type(error).__name__}: {error}")])
