"""Resolution of a name of weights to its files, without reading tensors."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import attrs

from gpt2dsl.data import tokenizer_files
from gpt2dsl.data.documents import read_json
from gpt2dsl.errors import InputError, some
from gpt2dsl.files import cache
from gpt2dsl.parts.runtime import Runtime
from gpt2dsl.schema.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    NANOGPT,
    STRATEGY,
    WEIGHTS,
)
from gpt2dsl.terminal import say
from gpt2dsl.weights import folders_of_runs, hub, store
from gpt2dsl.weights.folders_of_runs import CHECKPOINTS

_RANK = re.compile(r"rank_(\d+)")
_BASE = (WEIGHTS, "pytorch_model.bin")
_ADAPTER = (ADAPTER_WEIGHTS, "adapter_model.bin")
_INDEX = ".index.json"


@attrs.frozen(kw_only=True)
class CheckpointLocation:
    """The location of weights.

    Attributes:
        path: the folder, or the file that was named.
        files: the files with tensors, several if sharded.
        checkpoint: the name of a checkpoint of ours; "" for foreign weights.
        index: tensor → file, if sharded; else None.
        ranks: the folder of ``rank_0`` and so on; None if there are no such folders.
        is_split: whether each file is the shard of a rank, ``rank_0`` first.
        strategy: the folder of strategy files; None if there is none.
        skipped: the faults of newer, damaged checkpoints of the run, which were skipped.
    """

    path: Path
    files: tuple[Path, ...]
    checkpoint: str = ""
    index: dict[str, Path] | None = None
    ranks: Path | None = None
    is_split: bool = False
    strategy: Path | None = None
    skipped: tuple[InputError, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of config.json."""
        return self.ranks or self.files[0].parent

    @property
    def is_adapter(self) -> bool:
        """True for an adapter of other weights."""
        return self.files[0].name.startswith("adapter_model.")

    @property
    def tokenizer(self) -> Path | None:
        """The folder, if it contains a tokenizer of any kind; else None."""
        return self.folder if tokenizer_files.is_beside(self.folder) else None


def find(
    name: str | Path, *, contents: bool = True, fetch: bool = False, revision: str = ""
) -> CheckpointLocation:
    """Return the location of weights.

    A folder with both a base and an adapter_config.json counts as the adapter, as in transformers.

    Args:
        name: a folder or file of Hugging Face, MindFormers or PEFT, a checkpoint or run of ours, a
            size, or a name on the Hub.
        contents: whether to compare a checkpoint's checksums, as in ``store.verify``.
        fetch: whether to download weights that are on the Hub and not cached.
        revision: the commit, branch or tag of a name on the Hub; "" for the newest.

    Raises:
        InputError: it is absent (G2-301), empty (G2-302), or damaged or of no known format
            (G2-304).
    """
    path = cache.expanded(name)
    try:
        if path.is_dir():
            return _in_folder(path, contents=contents)
        if path.exists():
            return _file(path)
        repo = hub.canonical(str(name))
        if repo and Path(repo).is_dir():
            return _in_folder(Path(repo), contents=contents)
        snapshot = hub.cached(repo, revision) if repo else None
        if not snapshot:
            _refuse_run(name, path)
            snapshot = _fetched(repo, revision) if repo and fetch else None
        if snapshot:
            return attrs.evolve(_in_folder(snapshot, contents=contents), path=Path(name))
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror}") from error
    if repo:
        message = (
            f"there is no such file or folder here; if it is a model on the Hub, it is not "
            f"fetched yet: gpt2dsl fetch {name}" + (f" (revision {revision})" if revision else "")
        )
        raise InputError("G2-301", name, message)
    raise InputError("G2-301", name, "there is no such file or folder")


def find_base(
    name: str, adapter: CheckpointLocation, *, contents: bool, fetch: bool, revision: str
) -> CheckpointLocation:
    """Return the location of an adapter's base, which may be in the same folder.

    Raises:
        InputError: as in ``find``, or it is an adapter itself (G2-312).
    """
    base = find(name, contents=contents, fetch=fetch, revision=revision)
    if base.is_adapter and base.folder.resolve() == adapter.folder.resolve():
        base = _hugging_face(base.folder, _BASE) or base
    if base.is_adapter:
        raise InputError("G2-312", name, "it is an adapter itself; merge that one first")
    return base


def refuse_absent(name: str) -> None:
    """Raise an error if a name is of nothing here, and can't be one on the Hub; fetch nothing.

    Raises:
        InputError: there is no such file, folder or run (G2-301).
    """
    path, repo = cache.expanded(name), hub.canonical(name)
    if path.exists() or (repo and (Path(repo).is_dir() or hub.cached(repo, ""))):
        return
    _refuse_run(name, path)
    if not repo:
        raise InputError("G2-301", name, "there is no such file or folder")


def _refuse_run(name: str | Path, path: Path) -> None:
    """Raise an error if the name can only be that of a run, but no such run exists.

    Raises:
        InputError: it lists the runs in the folder (G2-301).
    """
    folder = path.parent
    runs = sorted(entry.parent.name for entry in folder.glob("*/plan.json"))
    if folder != Path() and (runs or str(folder) == Runtime().output):
        nearest = difflib.get_close_matches(path.name, runs, n=len(runs) or 1, cutoff=0)
        words = some(nearest) or "none"
        raise InputError("G2-301", name, f"there is no such run; those in {folder}: {words}")


def _fetched(repo: str, revision: str) -> Path:
    say(f"{repo} is not here: asking the Hugging Face Hub")
    try:
        return hub.fetch(repo, revision)
    except InputError as error:
        first = error.faults[0]
        raise InputError(
            first.code, first.key, f"there is no such file or folder; on the Hub: {first.message}"
        ) from error


def _in_folder(folder: Path, *, contents: bool) -> CheckpointLocation:
    if (folder / store.MANIFEST).exists():
        return _checkpoint(folder, contents=contents)
    is_run = (folder / CHECKPOINTS).is_dir()
    if (is_run or store.steps(folder)) and not (folder / CONFIG).exists():
        checkpoints = folder / CHECKPOINTS if is_run else folder
        newest = store.newest(checkpoints, contents=contents)
        if newest.folder:
            return attrs.evolve(_checkpoint(newest.folder, contents=False), skipped=newest.skipped)
        raise (
            newest.skipped[0]
            if newest.skipped
            else InputError("G2-301", checkpoints, "the run has no checkpoint")
        )
    return _single(folder)


def _checkpoint(folder: Path, *, contents: bool) -> CheckpointLocation:
    store.verify(folder, contents=contents)
    return attrs.evolve(_single(folder), checkpoint=folder.name)


def _hugging_face(folder: Path, names: tuple[str, ...]) -> CheckpointLocation | None:
    """Return weights under the first of these names that exists, in one file or in shards."""
    for name in names:
        if (folder / name).exists():
            return CheckpointLocation(path=folder, files=(folder / name,))
        if (folder / (name + _INDEX)).exists():
            return attrs.evolve(_shards(folder / (name + _INDEX)), path=folder)
    return None


def _single(folder: Path) -> CheckpointLocation:
    """Return the weights of a folder: in one file, in shards, or MindFormers'."""
    is_adapter = (folder / ADAPTER_CONFIG).exists()
    if weights := _hugging_face(folder, _ADAPTER if is_adapter else _BASE + _ADAPTER):
        return weights
    if is_adapter:
        message = f"it is not there, but {ADAPTER_CONFIG} is; name a base beside it by its file"
        raise InputError("G2-301", folder / ADAPTER_WEIGHTS, message)
    if ranks := rank_folders(folder):
        return _split(folder, ranks)
    checkpoints = sorted([*folder.glob("*.ckpt"), *folder.glob(NANOGPT)])
    if len(checkpoints) == 1:
        return CheckpointLocation(path=folder, files=(checkpoints[0],))
    if len(checkpoints) > 1:
        names = ", ".join(path.name for path in checkpoints[:3])
        message = f"it has {len(checkpoints)} checkpoints, name one of them: {names}"
        raise InputError("G2-304", folder, message)
    if not any(folder.iterdir()):
        raise InputError("G2-302", folder, "the folder is empty")
    if (folder / "export.json").exists():
        message = "these are graphs for deployment, no weights: gpt2dsl lite run"
        raise InputError("G2-304", folder, message)
    folders_of_runs.refuse(folder)
    message = "there is no such file, nor pytorch_model.bin, an index of shards, or a .ckpt"
    raise InputError("G2-301", folder / WEIGHTS, message)


def rank_folders(folder: Path) -> list[Path]:
    """Return the subfolders ``rank_<N>`` of a folder, sorted by number.

    Raises:
        InputError: a number is missing (G2-301).
    """
    folders = {
        int(match[1]): path for path in folder.iterdir() if (match := _RANK.fullmatch(path.name))
    }
    for number in range(max(folders, default=-1)):
        if number not in folders:
            message = f"there is no such folder, but rank_{max(folders)} is there"
            raise InputError("G2-301", folder / f"rank_{number}", message)
    return [folders[number] for number in sorted(folders)]


def _split(folder: Path, ranks: list[Path]) -> CheckpointLocation:
    """Return the files in the ranks' folders; ``rank_0`` alone may also contain whole weights."""
    candidates = (folder / STRATEGY, folder.parent / STRATEGY)
    strategy = next((path for path in candidates if path.is_dir()), None)
    files = tuple(map(_of_rank, ranks))
    return CheckpointLocation(
        path=folder,
        files=files,
        ranks=folder,
        is_split=len(files) > 1 or bool(strategy),
        strategy=strategy,
    )


def _of_rank(folder: Path) -> Path:
    files = sorted(path for end in ("ckpt", "safetensors") for path in folder.glob(f"*.{end}"))
    if not files:
        raise InputError("G2-301", folder, "it holds no .ckpt and no .safetensors")
    if len(files) > 1:
        names = ", ".join(path.name for path in files[:3])
        message = f"it holds {len(files)} checkpoints, one is expected: {names}"
        raise InputError("G2-304", folder, message)
    return files[0]


def _file(path: Path) -> CheckpointLocation:
    if path.name.endswith(_INDEX):
        return _shards(path)
    return CheckpointLocation(path=path, files=(path,))


def _shards(path: Path) -> CheckpointLocation:
    index = read_json(path).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise InputError("G2-304", path, "it has no weight_map")
    for name in index.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError("G2-304", path, f"{name!r} is no file of this folder")
    files = {name: path.parent / name for name in sorted(set(index.values()))}
    return CheckpointLocation(
        path=path,
        files=tuple(files.values()),
        index={tensor: files[name] for tensor, name in index.items()},
    )
