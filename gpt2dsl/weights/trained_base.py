"""Base that an adapter was trained on, which must be the one that it is merged into."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gpt2dsl.errors import InputError
from gpt2dsl.weights import contents, training_state

_KEY = "model.weights"
_DIGITS = 32
"""Length of a digest; a shorter word stands for one that was not known."""


def digest_of(checkpoint: Path) -> str:
    """Return the digest of the weights that a checkpoint's run began with; "" if none is noted."""
    with suppress(InputError):  # state may be left out of a copy
        identity = training_state.read_state(checkpoint).get("identity")
        recorded = identity.get("contents") if isinstance(identity, dict) else None
        digest = recorded.get(_KEY) if isinstance(recorded, dict) else None
        if isinstance(digest, str) and len(digest) == _DIGITS:
            return digest
    return ""


def refuse_changed(
    checkpoint: Path, base: str, files: Iterable[tuple[str, Path]], *, compute: bool
) -> None:
    """Refuse a base whose contents have changed since an adapter was trained on it.

    Args:
        checkpoint: folder of the adapter's checkpoint.
        base: name of the base.
        files: files that determine the base, each under its role.
        compute: whether contents that are slow to read are read; else those that are known count.

    Raises:
        InputError: it is another base (G2-312).
    """
    trained_on = digest_of(checkpoint)
    if not trained_on:
        return
    digest = contents.of_files(files) if compute else contents.known(files)
    if digest and digest != trained_on:
        message = (
            f"its base {base} has changed since the adapter was trained on it (contents "
            f"{trained_on[:8]}.. then, {digest[:8]}.. now): put the former weights back, or "
            "train again; convert --base takes another base as it is"
        )
        raise InputError("G2-312", checkpoint, message)
