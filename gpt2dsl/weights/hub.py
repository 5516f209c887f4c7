"""Weights on the Hugging Face Hub: name resolution, cache look-up and download."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gpt2dsl import terminal
from gpt2dsl.data import tokenizer_files
from gpt2dsl.errors import FileError, Gpt2DslError, InputError
from gpt2dsl.parts.model import ALIASES, PUBLISHED

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_SHORT = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}
"""Legacy names without an owner, still resolved by the Hub."""

_LEGAL = re.compile(r"(?!.*(--|\.\.))\b[\w.-]+\b/\b[\w.-]{1,96}\b(?<!\.git)", re.ASCII)
"""Names with an owner that huggingface_hub's validate_repo_id accepts."""

_FILES = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".h5", ".json", ".npz", ".gguf")

_INDEX = ".index.json"

_LAYOUTS = {
    "config.json": (
        "model.safetensors",
        f"model.safetensors{_INDEX}",
        "pytorch_model.bin",
        f"pytorch_model.bin{_INDEX}",
    ),
    "adapter_config.json": ("adapter_model.safetensors", "adapter_model.bin"),
}
"""Configuration → file names of its weights, in order of precedence."""

_TEMPLATES = f"{tokenizer_files.TEMPLATES}/*.jinja"
_EXTRAS = ("generation_config.json", *tokenizer_files.KEPT, *tokenizer_files.FOREIGN)


def canonical(name: str) -> str | None:
    """Return the Hub's name, ``owner/model``, of a size, alias or Hub name; None for a path.

    A path like ``weights/gpt2`` is also a legal name: check the disk first.
    """
    if repo := PUBLISHED.get(ALIASES.get(name, name)) or _SHORT.get(name):
        return repo
    return name if _LEGAL.fullmatch(name) and not name.lower().endswith(_FILES) else None


def cached(repo: str, revision: str = "") -> Path | None:
    """Return the folder of complete weights in huggingface_hub's cache, without network access.

    ``revision`` is a commit, branch or tag; "" for the newest.
    """
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415  # plans rarely need it

    # transformers caches models requested by a legacy name under that name.
    for name in (repo, *(short for short, full in _SHORT.items() if full == repo)):
        for config in _LAYOUTS:
            path = try_to_load_from_cache(name, config, revision=revision or None)
            if isinstance(path, str) and _whole(Path(path).parent):
                return Path(path).parent
    return None


def fetch(repo: str, revision: str = "") -> Path:
    """Download weights with their configuration and tokenizer; return the cache's folder.

    Cached files are not downloaded again, and interrupted downloads resume. Size and, if the Hub
    has it, SHA-256 of each file are compared with the Hub's. If it can't be asked, ``cached``
    counts.

    Raises:
        InputError: the Hub can't be reached or has no such weights (G2-301), or damaged ones
            (G2-304).
        RunError: the disk is full, or the cache can't be written.
    """
    from huggingface_hub import HfApi, constants  # noqa: PLC0415  # plans do without

    with _quiet():
        try:
            # The library's other calls have this timeout; this one would wait forever.
            limit = constants.HF_HUB_ETAG_TIMEOUT
            info = HfApi().model_info(
                repo, revision=revision or None, files_metadata=True, timeout=limit
            )
        except _failures() as error:
            if folder := cached(repo, revision):
                return folder
            raise _explained(repo, error) from error
        listed = {file.rfilename: file for file in info.siblings or ()}
        try:
            return _Commit(repo, str(info.sha), listed, revision or "main").fetch()
        except OSError as error:
            raise _explained(repo, error) from error


@attrs.frozen
class _Commit:
    """A commit of a model on the Hub, with its list of files."""

    repo: str
    name: str
    listed: dict[str, RepoSibling]
    branch: str = "main"

    def fetch(self) -> Path:
        """Download the needed files and return their folder."""
        chosen = _choose(self.listed)
        if chosen is None:
            known = " or ".join(f"{config} with {names[0]}" for config, names in _LAYOUTS.items())
            raise _absent(self.repo, f"on the Hub it has no weights that are read here ({known})")
        config, weights = chosen
        extras = [name for name in _EXTRAS if name in self.listed]
        extras += sorted(name for name in self.listed if fnmatch(name, _TEMPLATES))
        names = [config, *extras, weights]
        if weights.endswith(_INDEX):
            names += _shards(self.file(weights))
        if lacking := [name for name in names if name not in self.listed]:
            raise InputError("G2-304", self.repo, f"{weights} names {lacking[0]}, which is absent")
        self.find_room(names)
        paths = [self.file(name) for name in names]
        # The branch is written last, so that `cached` only finds verified files.
        if self.branch != self.name:
            branch = paths[0].parents[2] / "refs" / self.branch
            branch.parent.mkdir(parents=True, exist_ok=True)
            branch.write_text(self.name)
        return paths[0].parent

    def file(self, name: str) -> Path:
        """Return the path of a file, downloaded if not cached, and compared with the Hub's."""
        from huggingface_hub import hf_hub_download  # noqa: PLC0415  # plans do without

        # One file at a time: snapshot_download does not report which file failed.
        try:
            path = Path(hf_hub_download(self.repo, name, revision=self.name))
            fault = _difference(path, self.listed[name])
            if fault:
                path.resolve().unlink()
                path.unlink(missing_ok=True)
        except _failures() as error:
            raise _explained(self.repo, error, name) from error
        if fault:
            raise InputError("G2-304", f"{self.repo}/{name}", f"{fault}; run the command again")
        return path

    def find_room(self, names: Collection[str]) -> None:
        """Raise an error before downloading if the disk has too little room.

        Raises:
            RunError: the files need more bytes than are free.
        """
        from huggingface_hub import constants, try_to_load_from_cache  # noqa: PLC0415  # as above

        cache = Path(constants.HF_HUB_CACHE)
        begun = cache.glob(f"models--{self.repo.replace('/', '--')}/blobs/*.incomplete")
        needed = -sum(path.stat().st_size for path in begun)
        for name in names:
            if not isinstance(try_to_load_from_cache(self.repo, name, revision=self.name), str):
                needed += self.listed[name].size or 0
        free = shutil.disk_usage(
            next(path for path in (cache, *cache.parents) if path.exists())
        ).free
        if needed > free:
            raise FileError(
                "G2-403",
                f"{self.repo}: {needed / 1e9:.1f} GB are to be downloaded, and {cache} has room "
                f"for {free / 1e9:.1f}; HF_HOME moves it to another disk",
            )


def _choose(names: Collection[str]) -> tuple[str, str] | None:
    """Return a folder's configuration file, and its weights or their index; None if absent."""
    for config, layouts in _LAYOUTS.items():
        for weights in layouts:
            if config in names and weights in names:
                return config, weights
    return None


def _whole(folder: Path) -> bool:
    chosen = _choose({path.name for path in folder.iterdir() if path.is_file()})
    if chosen is None or not chosen[1].endswith(_INDEX):
        return chosen is not None
    try:
        return all((folder / name).is_file() for name in _shards(folder / chosen[1]))
    except InputError:
        return False


def _shards(index: Path) -> list[str]:
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        return sorted(names)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError("G2-304", index, "it is no index of weights") from error


def _difference(path: Path, listed: RepoSibling) -> str:
    """Return the difference between a file and the Hub's; "" if there is none."""
    size = path.stat().st_size
    if listed.size is not None and size != listed.size:
        return f"{size} bytes arrived, the Hub has {listed.size}"
    if listed.lfs is None:
        return ""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            sha256.update(block)
    same = sha256.hexdigest() == listed.lfs.sha256
    return "" if same else "what arrived is damaged: its SHA-256 is not the Hub's"


def _failures() -> tuple[type[Exception], ...]:
    """Return the exceptions that huggingface_hub may raise."""
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415  # plans do without

    # The bases belong to the HTTP library: requests before 1.0, httpx since. RuntimeErrors come
    # from Xet, the Hub's own protocol.
    return (OSError, ValueError, RuntimeError, *HfHubHTTPError.__bases__)


def _absent(repo: str, why: str) -> InputError:
    return InputError(
        "G2-301",
        repo,
        f"it is in no cache here, and {why}; put config.json, model.safetensors, vocab.json and "
        f"merges.txt into the folder ./{repo}, or name another folder",
    )


def _explained(repo: str, error: Exception, file: str = "") -> Gpt2DslError:
    """Return the error for a failure of the library, at one file or at the file list."""
    from huggingface_hub import errors  # noqa: PLC0415  # plans do without

    status, reason = _cause(error)
    if isinstance(error, OSError) and error.errno:
        return FileError("G2-403", f"{repo}: huggingface_hub's cache can't be written: {reason}")
    if isinstance(error, errors.GatedRepoError):
        why = f"its owners choose who reads it: ask on hf.co/{repo}, then run `hf auth login`"
    elif isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        why = "the Hub has no such model, or a private one, which needs `hf auth login`"
    elif status == 401:
        why = "the Hub refuses the token that is set here; `hf auth login` sets another"
    elif status:
        why = f"the Hub answers with {reason}"
    elif file:
        again = "run the command again, and the download goes on"
        return InputError("G2-301", f"{repo}/{file}", f"it broke off ({reason}); {again}")
    else:
        why = f"the Hub can't be reached ({reason})"
    return _absent(repo, why)


def _cause(error: Exception) -> tuple[int, str]:
    """Return the Hub's HTTP status, or 0 if it did not answer, and a short reason."""
    from huggingface_hub.errors import OfflineModeIsEnabled  # noqa: PLC0415  # plans do without

    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    if any(isinstance(link, OfflineModeIsEnabled) for link in chain):
        return 0, "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
    for link in chain:
        if (response := getattr(link, "response", None)) is not None:
            return response.status_code, f"status {response.status_code}"
    # The operating system's messages are short; the library's contain URLs and advice.
    messages = [link.strerror for link in chain if isinstance(link, OSError) and link.strerror]
    return 0, (messages or [*str(chain[-1]).splitlines(), type(chain[-1]).__name__])[0][:100]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's warnings, which our errors replace, and its bars in quiet mode."""
    from huggingface_hub.utils.tqdm import (  # noqa: PLC0415  # plans do without
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger = logging.getLogger("huggingface_hub")
    level, shows_bars = logger.level, not are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    if shows_bars and terminal.is_quiet():
        disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if shows_bars:
            enable_progress_bars()
