"""Inputs of a plan: their state, their digest, and the faults for which a run refuses them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from gpt2dsl.data import prompts
from gpt2dsl.data.classes import labels_of
from gpt2dsl.data.form import DataFormat, other_format, refuse_other_than_text
from gpt2dsl.data.source import Preview, Source
from gpt2dsl.data.table import FILE_FORMATS
from gpt2dsl.errors import Fault, InputError, SpecError, some
from gpt2dsl.files import cache
from gpt2dsl.layout.config import REGRESSION
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.model import PUBLISHED
from gpt2dsl.plan.checks import WITHOUT_CLASSES, fault


@attrs.frozen(kw_only=True)
class Input:
    """A file, folder or Hub name that a run reads.

    Attributes:
        key: key of the recipe that names it: ``task.data``.
        name: name as written.
        state: present, absent, unusable, or promised by an earlier stage of a chain.
        digest: SHA-256 of the contents; "" if the input is absent or hashing is deferred (pending).
        size: bytes.
        detail: a description, shown in the plan.
        files: files to read, in order, with the targets of links; only for data.
        passed_over: files in the same place that are not read, with the reason.
        bad_rows: skipped rows among the examined ones, with the reason.
        enclosed: messages on quotes that enclose several lines and tabs, and may be plain text.
        refusals: faults for which check and run refuse the input; () if they accept it.
    """

    key: str
    name: str
    state: str = "present"
    digest: str = ""
    size: int = 0
    detail: str = ""
    files: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    bad_rows: tuple[str, ...] = ()
    enclosed: tuple[str, ...] = ()
    refusals: tuple[Fault, ...] = ()


READ_BY = (
    *(f"data.{key}" for key in ("format", "text_column", "label_column", "header", "quotes")),
    *("data.max_bad_rows", "classifier", "model"),
)
"""Keys and tables that determine how data is read."""

SMALL = 2**23
"""Maximum size in bytes of a table whose rows a plan examines completely."""

LOOKED_AT = 1000
"""Number of rows that a plan examines in a larger table; a run reads all of them."""


def find_source(
    parts: Parts, key: str, classes: tuple[str, ...], problem: str = "", *, whole: bool = False
) -> tuple[Input, Source | None]:
    """Return the data that ``key`` names as an input, and its source if it is usable.

    Args:
        parts: the recipe's.
        key: ``task.data`` or ``task.eval_data``.
        classes: names of a classifier's classes; () if the data needs none.
        problem: kind of the classifier's outputs, as in ``GPT2Config.problem``.
        whole: whether to examine a large table completely if bad rows may be skipped.
    """
    name = parts.value(key)
    looked = Preview(0)
    try:
        source = Source.open(name, DataFormat.of(parts.data))
        if "format" not in parts.data.origins and parts.data.format == "text":
            refuse_other_than_text(name, (file.path for file in source.files))
        if source.form.format not in (*WITHOUT_CLASSES, "mindrecord"):
            looked = _look(source, classes, problem, whole=whole)
        item = Input(
            key=key,
            name=name,
            digest=source.known_digest() or "",
            size=source.size,
            detail=parts.data.format + _unread(source),
            files=tuple(_linked(file.path) for file in source.files),
            passed_over=tuple(f"{_printable(path)}: {why}" for path, why in source.passed),
            bad_rows=looked.bad,
            enclosed=looked.enclosed,
        )
    except SpecError as error:
        return refused(parts, key, name, _mixed(parts, key, error) or error, READ_BY), None
    return item, source


def _mixed(parts: Parts, key: str, error: SpecError) -> InputError | None:
    """Return the error of training and evaluation data in different formats; None if they agree.

    Both are read in the same format, so following the advice of ``error`` for one of them would
    make the other unreadable.
    """
    beside = {"task.data": "task.eval_data", "task.eval_data": "task.data"}.get(key, "")
    name, other = (getattr(parts.task, at.partition(".")[2], "") for at in (key, beside))
    if (
        not other
        or other.startswith("sample:")
        or error.code not in ("G2-302", "G2-304", "G2-309", "G2-310")
    ):
        return None
    if not _is_there(other):
        return None
    actual, wanted = _apparent(name), _apparent(other)
    if "format" in parts.data.origins:
        if parts.data.format in ("jsonl", "mindrecord"):
            actual, wanted = actual or "text", wanted or "text"
        is_other = actual not in (
            "",
            wanted,
            FILE_FORMATS.get(parts.data.format, parts.data.format),
        )
        wanted = parts.data.format
    else:
        is_other = actual != wanted and not (key == "task.data" and wanted)
        wanted = wanted or "text"
    if not is_other:
        return None
    message = (
        f"it looks like {actual}, but {beside} ({other}) is {wanted}, and one data.format is that "
        f"of both: write {name} as {wanted} too"
    )
    return InputError("G2-310", name, message)


def _is_there(name: str) -> bool:
    """Return whether a source exists and contains text."""
    try:
        return Source.find(name) is not None
    except SpecError:
        return False


def _apparent(name: str) -> str:
    """Return the format of data from its content or name; "" if neither determines it."""
    try:
        path = Source.open(name).files[0].path
        with path.open("rb") as file:
            is_json = file.readline(SMALL).lstrip(b"\xef\xbb\xbf \t").startswith(b"{")
    except (SpecError, OSError):
        return ""
    return "jsonl" if is_json else other_format(path)


def _look(source: Source, classes: tuple[str, ...], problem: str, *, whole: bool) -> Preview:
    """Examine the rows of a table, or only the first rows of a large one.

    Raises:
        SpecError: there are too many bad rows (G2-309), or no usable ones (G2-302).
    """
    labels = labels_of(classes, source.form, is_regression=problem == REGRESSION)
    number = labels.number if classes else None
    all_rows = source.size <= SMALL or (whole and source.form.max_bad_rows)
    looked = source.look(number=number, first=None if all_rows else LOOKED_AT)
    if not looked.rows and (all_rows or not looked.bad):
        raise source.without_rows()
    return looked


def notes(read: Iterable[Input]) -> Iterator[str]:
    """Yield notes on skipped rows, suspicious quotes, and held-out text that is trained on."""
    by_key = {item.key: item for item in read}
    for item in by_key.values():
        if item.bad_rows:
            yield f"{item.key} passes over what can't be used: {some(item.bad_rows)}"
    if quotes := dict.fromkeys(words for item in by_key.values() for words in item.enclosed):
        yield some([*quotes])
    data, held_out = by_key.get("task.data"), by_key.get("task.eval_data")
    if data and held_out and (shared := _shared(data, held_out)):
        yield f"task.eval_data is trained on: {shared}; its loss says nothing of other text"


def _shared(data: Input, held_out: Input) -> str:
    """Return a description of the data that two inputs share; "" if they share none."""
    if data.state != "present" or held_out.state != "present":
        return ""
    if data.name == held_out.name:
        return "it is task.data"
    if data.digest == held_out.digest != "":
        return f"{held_out.name} has the contents of task.data"
    both = [path for path in held_out.files if path in data.files]
    return f"{some(both)} {'is' if len(both) == 1 else 'are'} in task.data" if both else ""


def _unread(source: Source) -> str:
    """Return a suffix that lists the columns of MindRecord files that are not read."""
    if source.form.format != "mindrecord":
        return ""
    from gpt2dsl.data import mindrecord, shards  # noqa: PLC0415  # NumPy: only where there is data

    names = {name: None for path in mindrecord.files(source) for name in shards.columns(path)}
    others = [name for name in names if name not in mindrecord.FIELDS]
    if changing := [name for name in others if name in mindrecord.OTHERS]:
        raise InputError("G2-309", source.name, mindrecord.changing(changing[0]))
    return f"; not read: {some(others)}" if others else ""


def _linked(path: Path) -> str:
    """Return a file's path, followed by its target if it is a link."""
    target = f" -> {_printable(path.readlink())}" if path.is_symlink() else ""
    return f"{_printable(path)}{target}"


def _printable(path: Path) -> str:
    """Return a path as text, with invalid UTF-8 replaced."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def find_texts(parts: Parts) -> list[Input]:
    """Return the file of prompts or texts, if one is named; the plan does not read stdin."""
    key = parts.task.texts_key if parts.task else ""
    if not key:
        return []
    name, kind = parts.value(key), key.removeprefix("task.")
    if not isinstance(name, str) or name == prompts.STDIN:
        return []
    try:
        texts = prompts.read(name, kind.removesuffix("s"))
    except InputError as error:
        return [refused(parts, key, name, error)]
    content = Path(name).read_bytes()
    return [
        Input(
            key=key,
            name=name,
            digest=hashlib.sha256(content).hexdigest(),
            size=len(content),
            detail=f"{len(texts):,} {kind if len(texts) != 1 else kind.removesuffix('s')}",
        )
    ]


def resumed(parts: Parts) -> list[Input]:
    """Return the checkpoint to resume training from, if one is named."""
    name = parts.train.resume
    if not parts.trains or name in ("auto", "never"):
        return []
    from gpt2dsl.weights import store  # noqa: PLC0415  # NumPy: only where there are checkpoints

    if (Path(name) / store.MANIFEST).is_file():
        try:
            files = store.manifest(Path(name))["files"]
        except InputError as error:
            return [refused(parts, "train.resume", name, error)]
        size = sum(file["size"] for file in files.values())
        return [Input(key="train.resume", name=name, detail="checkpoint", size=size)]
    message = f"expected auto, never, or the folder of a checkpoint: it has no {store.MANIFEST}"
    if (Path(name) / "checkpoints").is_dir():
        message = f"it is a run; name a checkpoint of it: {Path(name) / 'checkpoints'}/step-<N>"
    return [refused(parts, "train.resume", name, InputError("G2-301", name, message))]


def weights_name(parts: Parts) -> str:
    """Return the file, folder or Hub name of the initial weights; "" for new weights."""
    named: str = parts.value(weights_key(parts))
    if parts.converts:
        return "" if named == "auto" else named
    if parts.is_new:
        return ""
    return PUBLISHED.get(parts.model.canonical_size, "") if named == "auto" else named


def base_name(parts: Parts) -> str:
    """Return the base as adapter files refer to it: an absolute path, or a name on the Hub."""
    name = weights_name(parts)
    local = cache.expanded(name) if name else None
    if local is None or not local.exists():
        return name
    from gpt2dsl.weights import location  # noqa: PLC0415  # NumPy: only where there are weights

    # For a run, this is the folder of its checkpoint, which transformers can load.
    place = location.find(name, contents=False)
    return str((place.folder if local.is_dir() else local).absolute())


def weights_key(parts: Parts) -> str:
    """Return the key of the recipe that names the initial weights."""
    return parts.task.weights_key if parts.task else "model.weights"


def refused(
    parts: Parts, key: str, name: str, error: SpecError, compared: tuple[str, ...] = ()
) -> Input:
    """Return an input that check and run refuse; its faults point to the line that names it.

    If the input exists, the faults also point to ``compared``: keys and tables that determine how
    it is read.
    """
    messages = [(problem.code, _message(problem, name)) for problem in error.faults]
    return Input(
        key=key,
        name=name,
        state="absent" if messages[0][0] == "G2-301" else "unusable",
        detail=messages[0][1],
        refusals=tuple(
            fault(
                parts,
                code,
                key,
                message,
                *("model.size", "task.data", "task.prompts"),
                compared=() if code == "G2-301" else compared,
            )
            for code, message in messages
        ),
    )


def require(read: Iterable[Input]) -> None:
    """Raise an error if any input is refused.

    Raises:
        SpecError: it lists the faults of all refused inputs.
    """
    if faults := [fault for item in read for fault in item.refusals]:
        raise SpecError(faults)


def _message(problem: Fault, name: str) -> str:
    """Return the message of a fault, after its location unless that is the input itself."""
    place = problem.origin or problem.key
    return f"{place}: {problem.message}" if place and Path(place) != Path(name) else problem.message
