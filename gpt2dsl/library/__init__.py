"""Shared recipes: packages that register under the entry point ``gpt2dsl.recipes``.

Each module of a package that defines ``recipe`` is one: ``gpt2_124m_finetune.py`` is found as
``gpt2-124m-finetune``. Helpers live in modules without ``recipe``, or whose name begins with an
underscore; the latter are never imported from here. The built-in package is ``recipes``.

Packages are imported from their installed location under an alias: the working directory may have
another package of the same name, and both may be needed at once.
"""

from __future__ import annotations

import functools
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

import attrs
import regex

from gpt2dsl import terminal
from gpt2dsl.errors import Fault, SpecError, did_you_mean
from gpt2dsl.parts.base import PACKAGE

_GROUP = "gpt2dsl.recipes"
_OURS = "recipes"
_ALIAS = "gpt2dsl_library_"
_VARIABLE = "recipe"


@attrs.frozen
class LibraryEntry:
    """A shared recipe: ``gpt2-124m-finetune``, its ``module:name``, and its distribution."""

    name: str
    target: str
    package: str
    version: str


def entries() -> Iterator[LibraryEntry]:
    """Yield every installed shared recipe; report each unusable package once.

    A module that can't be imported counts as a recipe, so that loading it tells why.
    """
    return filter(_has_recipe, _modules())


def _modules() -> Iterator[LibraryEntry]:
    """Yield every module that may be a shared recipe, without importing it."""
    for point in sorted(set(entry_points(group=_GROUP)), key=lambda point: point.value):
        try:
            modules = list(pkgutil.iter_modules(_package(point).__path__))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # packages may raise anything
            _tell(_described(point), f"{type(error).__name__}: {error}")
            continue
        for module in modules:
            if module.name.startswith("_"):
                continue
            yield LibraryEntry(
                _name(module.name),
                f"{point.module}.{module.name}:{_VARIABLE}",
                point.dist.name if point.dist else point.module,
                point.dist.version if point.dist else "",
            )


def _has_recipe(entry: LibraryEntry) -> bool:
    """Return whether a module defines ``recipe``, or can't be imported."""
    try:
        return hasattr(module(entry), _VARIABLE)
    except (Exception, SystemExit):  # noqa: BLE001  # modules may raise anything
        return True


def load(entry: LibraryEntry) -> object:
    """Return a shared recipe, or whatever its module calls ``recipe``.

    Exceptions of the module propagate.
    """
    return getattr(module(entry), _VARIABLE)


def module(entry: LibraryEntry) -> ModuleType:
    """Import the module of a shared recipe.

    Exceptions of the module propagate.
    """
    package, _, name = entry.target.partition(":")[0].rpartition(".")
    return import_module(f"{_alias(package)}.{name}")


def _package(point: EntryPoint) -> ModuleType:
    """Import the package of an entry point under an alias."""
    alias = _alias(point.module)
    if alias in sys.modules:
        return sys.modules[alias]
    folder = _folder(point)
    spec = importlib.util.spec_from_file_location(
        alias, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[alias]
        raise
    return module


def _alias(package: str) -> str:
    """Return the alias of a package: a single name, so that it has no parent package."""
    return f"{_ALIAS}{package.replace('.', '_')}"


def _folder(point: EntryPoint) -> Path:
    """Return the installed folder of an entry point's package.

    Raises:
        ModuleNotFoundError: it is not installed, or is a module instead of a package.
    """
    within = Path(*point.module.split("."))
    places = [Path(str(point.dist.locate_file(within)))] if point.dist else []
    if point.module == _OURS:
        places.insert(0, Path(PACKAGE).parent / _OURS)
    for place in places:
        if (place / "__init__.py").is_file():
            return place
    spec = _elsewhere(point.module)
    if spec is None or not spec.origin or not spec.submodule_search_locations:
        kind = "no package" if spec is None else "a module, and no package of them"
        raise ModuleNotFoundError(f"{point.module} is {kind}")
    return Path(spec.origin).parent


def _elsewhere(name: str) -> ModuleSpec | None:
    """Find a package in editable installs, and last in the working directory."""
    before, here = sys.path.copy(), Path.cwd()
    parent = name.rpartition(".")[0]
    path = _search_path(parent) if parent else None
    try:
        for folders in ([folder for folder in before if Path(folder).resolve() != here], before):
            sys.path[:] = folders
            for finder in sys.meta_path:
                if spec := finder.find_spec(name, path):
                    return spec
    finally:
        sys.path[:] = before
    return None


def _search_path(package: str) -> list[str] | None:
    spec = _elsewhere(package)
    return list(spec.submodule_search_locations or ()) if spec else []


def _described(point: EntryPoint) -> str:
    brought = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
    return f"the package of recipes {point.module}{brought}"


@functools.cache
def _tell(what: str, why: str) -> None:
    """Report a package that is skipped, once per process."""
    terminal.say(f"passed over: {what} can't be imported: {why}")


def find(name: str) -> LibraryEntry:
    """Return the shared recipe with this name.

    Raises:
        SpecError: no recipe has the name, or several do.
    """
    matches = [entry for entry in _modules() if entry.name == name and _has_recipe(entry)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        message = f"is in {' and in '.join(entry.package for entry in matches)}; say module:name"
    else:
        near = did_you_mean(name, [entry.name for entry in entries()])
        hint = near or "; gpt2dsl list shows the library"
        message = f"is no recipe of the library, no .toml file and no module:name{hint}"
    raise SpecError([Fault("G2-002", "", name, message)])


def _name(module: str) -> str:
    """Return the name of a recipe: ``gpt2_1_5b_finetune`` → ``gpt2-1.5b-finetune``."""
    return regex.sub(r"(?<=-\d)-(?=\d+b)", ".", module.replace("_", "-"))
