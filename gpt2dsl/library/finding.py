"""Resolution of SPEC on the command line, and of ``extends`` in a spec."""

from __future__ import annotations

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
from gpt2dsl.errors import Fault, SpecError, counted, nearest, some
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
        path, folder = Path(name), Path(named_by).parent
        if path.suffix == ".toml":
            sibling = folder / path
            if sibling.exists() or path.exists():
                return self._once(sibling if sibling.exists() else path)
            if near := nearest(path.name, _specs_beside(sibling)):
                message = f"there is no such file; did you mean {path.with_name(near)}?"
                raise SpecError([Fault("G2-002", str(path), "", message)])
            return self._once(path)
        if ":" in name:
            return _imported(name)
        try:
            return shared(library.find(name))
        except SpecError:
            if advice := _meant(name, folder):
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


def _meant(name: str, folder: Path) -> str:
    """Return a hint on the recipe that a name probably means; "" if none is near.

    Args:
        name: a name that no recipe has.
        folder: folder that relative file names start from.
    """
    files = _specs_beside(folder / name)
    same = f"{Path(name).name}.toml"
    hint = "" if same in files else _of_python(name)
    if hint:
        return hint
    shared = [entry.name for entry in library.entries()]
    near = same if same in files else nearest(Path(name).name, [*files, *shared])
    return f"is no recipe; did you mean {Path(name).with_name(near)}?" if near in files else ""


def _specs_beside(path: Path) -> list[str]:
    """Return the names of the .toml files in a file's folder."""
    try:
        return [name for name in sorted(os.listdir(path.parent)) if name.endswith(".toml")]  # noqa: PTH208
    except (OSError, ValueError):
        return []


def _of_python(name: str) -> str:
    """Return a hint on how to name a recipe of Python code; "" if there is no such code."""
    file = name if name.endswith(".py") else f"{name}.py"
    if os.path.isfile(file):  # noqa: PTH113  # unlike Path.is_file, it accepts any name
        path = Path(file)
        if path.is_absolute() or ".." in path.parts:
            return f"{file} is Python: in its folder, name a recipe of it, {path.stem}:NAME"
        module = ".".join(path.with_suffix("").parts)
        return _named(file, module, _recipes_in(module))
    module, dot, variable = name.rpartition(".")
    if not dot or not all(map(str.isidentifier, name.split("."))):
        return ""
    if names := _recipes_in(module):
        return _named(module, module, [variable] if variable in names else names)
    names = _recipes_in(name)
    return _named(name, name, names) if names else ""


def _named(what: str, module: str, names: list[str]) -> str:
    """Return how the recipes of a module are named on the command line."""
    if len(names) == 1:
        return f"{what} is Python; did you mean {module}:{names[0]}?"
    return f"{what} is Python: name a recipe in it, {module}:{some(names) if names else 'NAME'}"


def _recipes_in(module: str) -> list[str]:
    """Return the variables of a module that are recipes or chains; [] if it can't be imported."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return []
    try:
        return _built(_import(module))
    except (Exception, SystemExit):  # noqa: BLE001  # a user's module may raise anything
        return []


def _require_recipe(config: RawConfig | ChainDrafts, name: str) -> RawConfig:
    if isinstance(config, RawConfig):
        return config
    message = f"is a chain of {counted(len(config.drafts), 'stage')}, where one recipe is expected"
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
    """Return the draft of the object ``module:name``."""
    module_name, _, attribute = target.partition(":")
    try:
        module = _import(module_name)
        member = getattr(module, attribute, _ABSENT)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise SpecError([Fault("G2-002", "", target, f"no module {module_name}")]) from None
        raise _failed(target, error) from error
    except SpecError:
        raise
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise _failed(target, error) from error
    known = _built(module)
    return _draft(member, target, f"; it has {', '.join(known)}" if known else "")


def _import(module: str) -> ModuleType:
    """Import a module from the working directory, or an installed one.

    The working directory stays on ``sys.path``, as for ``python recipe.py``: a recipe's callbacks
    may import from it later.
    """
    if sys.path[:1] != [here := str(Path.cwd())]:
        sys.path.insert(0, here)
    return importlib.import_module(module)


def _built(module: ModuleType) -> list[str]:
    """Return the names of a module's variables that are recipes or chains."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, Built) and not isinstance(value, type)
    ]


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
