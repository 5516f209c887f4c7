"""Identity of a run: everything that its result depends on, entry by entry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from gpt2dsl.identity.rules import ResumeRule, rule_of
from gpt2dsl.parts import TABLES, TASKS

PENDING = "pending"
"""Digest of contents that are slow to read and have not been read yet."""

ABSENT = "(absent)"
"""Value of a key that an identity lacks, because the recipe lacks its part."""


@attrs.frozen(kw_only=True)
class Difference:
    """Entry that differs from the recorded one; None stands for an absent value or digest.

    Attributes:
        key: key of the entry: ``train.batch_size``, or ``task.data`` for that file's contents.
        is_content: whether it is about a file's contents, not a value of the recipe.
    """

    key: str
    before: Any
    now: Any
    is_content: bool

    @property
    def rule(self) -> ResumeRule:
        return rule_of(self.key, is_content=self.is_content)

    @property
    def is_refused(self) -> bool:
        return self.rule.kind == "equal"

    def __str__(self) -> str:
        return self.name if self.is_content else f"{self.name} {self.change}"

    @property
    def name(self) -> str:
        """Name of the entry as shown to users."""
        return f"the contents of {self.key}" if self.is_content else self.key

    @property
    def change(self) -> str:
        """Old and new value or digest, as shown to users."""
        shown = _short if self.is_content else _shown
        return f"{shown(self.before)} -> {shown(self.now)}"


@attrs.frozen(kw_only=True)
class Identity:
    """Everything that a run's result depends on.

    Attributes:
        values: values of the recipe: ``optim.lr`` → 0.001.
        contents: digests of input files: ``task.data`` → digest, or pending.
    """

    values: Mapping[str, Any]
    contents: Mapping[str, str]

    @property
    def digest(self) -> str:
        document = json.dumps(attrs.asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(document.encode()).hexdigest()

    @property
    def is_pending(self) -> bool:
        return PENDING in self.contents.values()

    def with_contents(self, key: str, digest: str) -> Identity:
        """Return the identity with an input's digest in place of its value."""
        values = {name: value for name, value in self.values.items() if name != key}
        return Identity(values=values, contents={**self.contents, key: digest})

    def differences(self, recorded: Identity) -> Iterator[Difference]:
        """Yield every entry that differs from the recorded one; pending ones count as equal."""
        for key in {**recorded.values, **self.values}:
            before, now = recorded.values.get(key, ABSENT), self.values.get(key, ABSENT)
            if before != now and not _is_younger(key, before, now, recorded.values):
                yield Difference(key=key, before=before, now=now, is_content=False)
        for key in {**recorded.contents, **self.contents}:
            before, now = recorded.contents.get(key), self.contents.get(key)
            if before != now and PENDING not in (before, now):
                yield Difference(key=key, before=before, now=now, is_content=True)

    def at_resume(self, recorded: Identity) -> list[Difference]:
        """Return the differences that matter on resume: all but those without effect."""
        differences = self.differences(recorded)
        return [difference for difference in differences if difference.rule.kind != "no effect"]

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield each entry as text: values as in the recipe, contents as digests."""
        yield from ((key, _shown(value)) for key, value in self.values.items())
        yield from ((f"contents of {key}", digest) for key, digest in self.contents.items())

    def to_json(self) -> dict[str, Any]:
        return {"values": dict(self.values), "contents": dict(self.contents)}

    @classmethod
    def from_json(cls, document: Any) -> Identity:
        """Return the identity that ``to_json`` wrote.

        Raises:
            ValueError: the document is not an identity.
        """
        try:
            values, contents = dict(document["values"]), dict(document["contents"])
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"expected an identity, found {document!r:.40}") from error
        return cls(values=values, contents=contents)


def refusal(differences: Iterable[Difference]) -> str:
    """Return why a resume is refused; "" if every difference is allowed."""
    reasons = [
        f"{difference.name} ({difference.change}): {difference.rule.words}"
        for difference in differences
        if difference.is_refused
    ]
    if not reasons:
        return ""
    return (
        f"changed since this checkpoint was written: {'; '.join(reasons)}; "
        "train.resume = never starts anew"
    )


def _is_younger(key: str, before: Any, now: Any, recorded: Mapping[str, Any]) -> bool:
    """Return whether a key that did not exist when the identity was recorded has its default."""
    table, _, name = key.partition(".")
    if before != ABSENT or not any(other.startswith(f"{table}.") for other in recorded):
        return False
    kinds = TASKS.values() if table == "task" else [TABLES[table]] if table in TABLES else []
    defaults = [field.default for kind in kinds for field in kind.fields() if field.name == name]
    return any(_plain(default) == now for default in defaults)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return "none" if value in (None, ABSENT) else json.dumps(value, ensure_ascii=False)


def _short(digest: Any) -> str:
    return "none" if digest is None else f"{str(digest)[:8]}.."
