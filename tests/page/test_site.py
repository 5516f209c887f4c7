"""The manual in Chromium, on a phone and on a desk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".browser" / "bin" / "python"

pytestmark = [
    pytest.mark.judges,
    pytest.mark.skipif(not PYTHON.exists(), reason="make judges makes the environment"),
]


def test_no_page_of_the_manual_scrolls_sideways(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    info = [PYTHON, Path(__file__).with_name("site.py"), tmp_path]
    wide = subprocess.run(info, stdout=subprocess.PIPE, check=True).stdout
    assert json.loads(wide) == {}
