"""Installation commands for the extras of the package."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit


def install(extra: str) -> str:
    """Return the command that installs an extra, in the clone if pip installed one by ``-e``."""
    folder = _clone()
    if folder is None:
        return f"pip install 'gpt2dsl[{extra}]'"
    where = "." if folder == Path.cwd() else folder
    return f"pip install -e {shlex.quote(f'{where}[{extra}]')}"


def _clone() -> Path | None:
    """Return the folder of an editable installation, None if it is not editable."""
    for distribution in metadata.distributions(name="gpt2dsl"):
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            return Path(unquote(urlsplit(origin["url"]).path)).resolve()
    return None
