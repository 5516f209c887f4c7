"""How an extra of the package is added to the environment that runs it."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit


def install(extra: str) -> str:
    """Return the command that adds an extra; of a clone that pip installed with ``-e``, there."""
    folder = _clone()
    if folder is None:
        return f"pip install 'gpt2dsl[{extra}]'"
    where = "." if folder == Path.cwd() else folder
    return f"pip install -e {shlex.quote(f'{where}[{extra}]')}"


def _clone() -> Path | None:
    """Return the folder that is installed to be edited; None where a copy is installed."""
    for found in metadata.distributions(name="gpt2dsl"):
        said = json.loads(found.read_text("direct_url.json") or "{}")
        if said.get("dir_info", {}).get("editable"):
            return Path(unquote(urlsplit(said["url"]).path)).resolve()
    return None
