"""Exception hierarchy. Every error that a user can cause is one of these, not a traceback.

Gpt2DslError
├── SpecError     the spec, the recipe or the command is wrong     exit code 2
│   ├── InputError          weights or data that it names can't be used  exit code 2
│   ├── ArgumentTypeError   a call in Python has an argument of a wrong type; also a TypeError
│   └── ArgumentValueError  a call in Python has a wrong value; also a ValueError
└── RunError      the run failed                                   exit code 1
    ├── FileError     a file can't be read or written
    ├── Interrupted   stopped by the user, with a checkpoint
    └── InUseError    another process works in the same directory  exit code 3

Each carries the ``code`` of its cause.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import attrs
from typing_extensions import Self, override

from gpt2dsl.notebook import ShownAsText

CODES = {
    "G2-001": "the file is not valid TOML",
    "G2-002": "the spec can't be found or read",
    "G2-003": "a table or key is written twice",
    "G2-004": "`extends` names no recipe, leads back to itself, or stands in a table",
    "G2-101": "unknown key",
    "G2-102": "unknown table",
    "G2-103": "a key that has no default is missing",
    "G2-104": "the key belongs to another task",
    "G2-105": "keys that exclude each other",
    "G2-106": "the same part twice",
    "G2-107": "the recipe lacks a part, or has one that its task can't use",
    "G2-108": "a chain where one recipe is expected, or vice versa",
    "G2-201": "wrong type",
    "G2-202": "out of range, or not one of the values allowed",
    "G2-203": "does not divide",
    "G2-204": "the sequence is longer than the model has positions",
    "G2-205": "the vocabulary of the tokenizer does not fit the model",
    "G2-206": "no layout fits the devices",
    "G2-301": "an input is absent",
    "G2-302": "an input is empty",
    "G2-303": "a text is not UTF-8",
    "G2-304": "an input is unreadable or damaged",
    "G2-305": "the text is too short for one batch",
    "G2-306": "the weights do not fit the model",
    "G2-307": "the weights do not identify their network",
    "G2-308": "the target can't be written as it should be",
    "G2-309": "a row of the data can't be used",
    "G2-310": "the data's name suggests another format than text, and `data.format` is not set",
    "G2-311": "the parts of an adapter do not fit each other",
    "G2-312": "the base does not fit the adapter",
    "G2-313": "a key in the files of the weights has a value that can't be used",
    "G2-314": "what describes the weights contradicts itself or their tensors",
    "G2-315": "the files of the ranks can't be joined",
    "G2-316": "the checkpoint belongs to another training run",
    "G2-317": "the weights belong to another task or have other classes",
    "G2-402": "the run failed",
    "G2-403": "a file can't be read or written",
    "G2-404": "the user stopped the run",
    "G2-501": "a rank failed or was killed",
    "G2-502": "a rank hung",
    "G2-503": "the scheduler's address can't be used",
    "G2-511": "a file is no rank table",
    "G2-512": "a field of a rank table is missing, unknown or wrong",
    "G2-513": "a server, an address or a rank of a rank table is claimed twice",
    "G2-514": "the numbers of a rank table do not agree",
    "G2-515": "the address of a server or a device can't be found",
    "G2-521": "a hosts file can't be read, or a line of it is wrong",
    "G2-522": "the machines do not make up the ranks of the recipe, or those of its rank table",
    "G2-523": "a machine of a job failed",
    "G2-524": "a machine's share of a job is invalid, or the first machine can't be reached",
    "G2-531": "MindSpore Lite or onnx is missing, or can't be set up",
    "G2-532": "MindSpore Lite or onnxruntime failed",
    "G2-533": "an exported graph's results differ from MindSpore's",
    "G2-534": "a package that serving needs is missing",
    "G2-535": "the server can't listen on its address",
}
"""Code → meaning. docs/errors.md explains each code; a test keeps both consistent."""


@attrs.frozen
class Fault(ShownAsText):
    """One fault of one value.

    Attributes:
        code: a key of ``CODES``.
        origin: location of the value: ``file.toml:7``, ``recipe.py:8``, ``--set``, or "".
        key: name of the value, ``train.batch_size``, with `` = value`` where that helps.
        message: the expected and the actual value, or the remedy.
        meant: the field that an unknown one is probably a misspelling of; "" if none is close.
        compared: keys and tables whose values it compares; if one is faulty, it is no fault.
    """

    code: str
    origin: str
    key: str
    message: str
    meant: str = ""
    compared: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)

    def __str__(self) -> str:
        head = "  ".join(word for word in (self.origin, self.key) if word)
        return f"{head}: {self.message} [{self.code}]" if head else f"{self.message} [{self.code}]"

    def to_json(self) -> dict[str, str]:
        """Return the fault as a JSON document, with key and value in two fields."""
        key, _, value = self.key.partition(" = ") if _KEY.match(self.key) else (self.key, "", "")
        named = {"code": self.code, "origin": self.origin, "key": key, "value": value}
        return {**named, "message": self.message}

    @property
    def order(self) -> tuple[str, int, str, str]:
        """Sort key: file, line number, key, code."""
        return (*file_and_line(self.origin), self.key, self.code)


def file_and_line(origin: str) -> tuple[str, int]:
    """Split ``file.toml:7`` or ``cell [5], line 7`` into file and line, 0 if it has no line."""
    match = _PLACE.fullmatch(origin)
    return (match[1], int(match[2])) if match else (origin, 0)


_KEY = re.compile(r"[^\s=]+ = ")
_PLACE = re.compile(r"(.*?)(?::|, line )(\d+)", re.DOTALL)


class Gpt2DslError(ShownAsText, Exception):
    """Base class of all errors, whose text is the message to the user.

    Attributes:
        code: the error's cause, a key of ``CODES``.
    """

    exit_code: ClassVar[int] = 1
    code: str

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: no stack frames, as on the command line."""
        lines = [*str(self).splitlines(), *getattr(self, "__notes__", ())]
        name = f"{type(self).__name__}:"
        return [f"{name} {lines[0]}"] if len(lines) == 1 else [name, *lines]


class SpecError(Gpt2DslError):
    """A wrong spec, recipe or command.

    Attributes:
        faults: every fault, sorted; each has its own code.
        code: the code of the first fault.
    """

    exit_code = 2

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.order))
        self.code = self.faults[0].code
        super().__init__("\n".join(map(str, self.faults)))

    @classmethod
    def of(cls, faults: Iterable[Fault]) -> Self:
        """Return the error of several faults, of a subclass too."""
        error = cls.__new__(cls)
        SpecError.__init__(error, faults)
        return error

    def in_words(self, words: Mapping[str, str]) -> Self:
        """Return the error with each key of a recipe in messages replaced by the caller's word."""
        keys = re.compile("|".join(rf"\b{re.escape(key)}\b" for key in words) or "(?!)")
        return self.of(
            attrs.evolve(fault, message=keys.sub(lambda key: words[key[0]], fault.message))
            for fault in self.faults
        )


@contextmanager
def in_words(words: Mapping[str, str]) -> Iterator[None]:
    """Re-raise errors with keys of a recipe replaced, see ``SpecError.in_words``."""
    try:
        yield
    except SpecError as error:
        raise error.in_words(words) from None


class InputError(SpecError):
    """Weights or data that can't be used, with a line per fault: ``path: message``."""

    def __init__(self, code: str, path: object, message: str) -> None:
        super().__init__([Fault(code, "", str(path), message)])


class ArgumentTypeError(SpecError, TypeError):
    """An argument of a wrong type, in a call from Python."""

    def __init__(self, message: str) -> None:
        super().__init__([Fault("G2-201", "", "", message)])


class ArgumentValueError(SpecError, ValueError):
    """An argument of a wrong value, in a call from Python."""

    def __init__(self, message: str) -> None:
        super().__init__([Fault("G2-202", "", "", message)])


class RunError(Gpt2DslError):
    """A failure of the run for which no input is at fault.

    Args:
        code: a key of ``CODES``; it follows the message in the text.
        message: the failure, with its remedy where there is one.
        hint: how to go on, such as a command, on a line of its own.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        self.code, self.message, self.hint = code, message, hint
        super().__init__(code, message, hint)

    @override
    def __str__(self) -> str:
        text = f"{self.message} [{self.code}]"
        return f"{text}\n{self.hint}" if self.hint else text


class FileError(RunError):
    """A failure of the operating system at a file: a full disk, a missing permission, a bad disk.

    A file that is absent, or that has other contents than expected, is an ``InputError``.
    """

    @classmethod
    def unwritable(cls, path: object, error: OSError) -> Self:
        """Return the error of a file or folder that can't be written."""
        return cls("G2-403", f"{path}: it can't be written: {error.strerror or error}")

    @classmethod
    def unreadable(cls, path: object, error: OSError) -> Self:
        """Return the error of a file whose reading failed."""
        return cls("G2-403", f"{path}: it can't be read: {error.strerror or error}")


class Interrupted(RunError):  # noqa: N818  # an event, not a fault
    """A stop by the user, with the progress saved in a checkpoint; its text has no code."""

    @override
    def __str__(self) -> str:
        return self.message


class InUseError(RunError):
    """Use of the run directory by another process; nothing was changed."""

    exit_code = 3


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` if one of ``known`` is close to ``word``, else ""."""
    close = nearest(word, known)
    return f"; did you mean {close}?" if close else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the word of ``known`` closest to ``word``, "" if none is close."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), "")


def counted(count: int, noun: str) -> str:
    """Return ``1 layer``, ``2 layers``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def some(names: Iterable[str]) -> str:
    """Return the first three names and the number of the others."""
    listed = list(names)
    others = f", and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + others
